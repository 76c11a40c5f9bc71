"""Under ``ckptd run`` a training program does what it does without: output, traceback and status."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from integration.looks import BESIDE, LOOKS, TRAIN

from harness import Action, Line, Outcome, compare, leftovers, run_ckptd, run_plain

BUFFERED = {"PYTHONUNBUFFERED": ""}
"""As most programs run: what stdout holds at the end is written by the interpreter's own last flush."""

END = "print('total', train(6))\n"

ENDS = {
    "success, and it reads stdin": "print([line.strip() for line in sys.stdin], sys.stdin.isatty())\n" + END,
    "exit in the middle": "def hook(step):\n    sys.exit(3)\n" + END,
    "exception": "def hook(step):\n    raise ValueError(f'bad batch at {step}')\n" + END,
    "exception with its cause": """\
def hook(step):
    try:
        {}[step]
    except KeyError as error:
        raise RuntimeError(
            "while looking up",
            step,
        ) from error
print(
    'total',
    train(
        6,
    ),
)
""",
    "exception in a library": "def hook(step):\n    model(torch.randn(3, 5))\n" + END,
    "keyboard interrupt": "import os, signal\ndef hook(step):\n    os.kill(os.getpid(), signal.SIGINT)\n"
    + END,
    "interrupt that is caught": """\
import os, signal
def hook(step):
    os.kill(os.getpid(), signal.SIGINT)
try:
    train(6)
except KeyboardInterrupt:
    print("interrupted, saving")
    torch.save(model.state_dict(), "model.pt")
""",
    "syntax error": END + "def f(:\n    pass\n",
    "full disk for stdout": END + "sys.stdout = open('/dev/full', 'w')\nprint('lost')\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    assert leftovers(place.store) == []


class Place:
    """A folder with a program, and two in which it runs: plain, and under ckptd."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "program"
        self.store = folder / "store"
        self.folder = folder

    def make(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.program / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def both(self, *args: str | Path, options: Sequence[str] = (), **more: Any) -> tuple[Outcome, Outcome]:
        """The same command plain and, at the same time, under ckptd; any difference is an error."""
        more = {"env": BUFFERED, **more}
        with ThreadPoolExecutor() as pool:
            alone = pool.submit(run_plain, args, self.folder / "plain", **more)
            under = run_ckptd(args, self.folder / "under", store=self.store, options=options, **more)
            plain = alone.result()
        # ckptd ends with the status by which a shell tells of a death by signal.
        status = plain.status if plain.status >= 0 else 128 - plain.status
        assert compare(plain, under, status=status) == [], under.stderr.decode()
        assert of_the_program(under.stderr) == of_the_program(plain.stderr)
        assert len(under.processes) == 1, under.stderr.decode()
        return plain, under


def of_the_program(stderr: bytes) -> list[bytes]:
    """Its lines, without those that ckptd has put in, addresses, and where it ran."""
    lines = stderr.replace(b"/under/", b"/plain/").splitlines(keepends=True)
    return [re.sub(rb"0x[0-9a-f]+", b"0x", line) for line in lines if not line.startswith(b"ckptd: ")]


def of_ckptd(stderr: bytes) -> list[str]:
    return [line for line in stderr.decode().splitlines() if line.startswith("ckptd: ")]


@pytest.mark.parametrize("name", ENDS)
def test_the_same_end(place, name):
    place.make({"train.py": TRAIN + ENDS[name]})
    place.both(place.program / "train.py", stdin=b"one\ntwo\n")


@pytest.mark.parametrize("name", LOOKS)
def test_a_program_that_looks_at_itself(place, name):
    place.make({"train.py": LOOKS[name], "beside.py": BESIDE})
    place.both(place.program / "train.py", "an argument")


def test_a_module_and_its_package(place):
    """``python -m``: the folder that it runs in is on its path."""
    text = (
        TRAIN + "from . import beside\nprint(__name__, __package__, __spec__.name, sys.argv[1:], beside.N)\n"
    )
    files = {
        "pkg/__init__.py": "print('package')\n",
        "pkg/beside.py": "N = 5\n",
        "pkg/mod.py": text + ENDS["exception"],
    }
    for cwd in ("plain", "under"):
        place.make({f"../{cwd}/{name}": content for name, content in files.items()})
    env = {**BUFFERED, "PYTHONSAFEPATH": ""}
    plain, _ = place.both("-m", "pkg.mod", "--width", "3", env=env)
    assert b"pkg.mod" in plain.stdout


CHILDREN = (
    TRAIN
    + """\
import multiprocessing
import os
from torch.utils.data import DataLoader


def work(n):
    for i in range(3):
        n += len(str(i).strip())
    model.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    return n, __name__, float(model[0].weight.grad.sum()) != 0


def say(text):
    print(text, flush=True)
    if text == "fails":
        sys.exit(5)


if __name__ == "__main__":
    print("total", train(5), flush=True)
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            print(method, pool.map(work, range(2)), flush=True)
    child = multiprocessing.Process(target=say, args=("fails",))
    child.start()
    child.join()
    print(child.exitcode, flush=True)
    for batch in DataLoader(torch.arange(6.0), batch_size=2, num_workers=1):
        print(batch.tolist(), flush=True)
"""
)


def test_children_by_fork_and_spawn(place):
    place.make({"train.py": CHILDREN})
    place.both(place.program / "train.py")


def test_its_own_sitecustomize_and_path(place):
    place.make(
        {
            "site/sitecustomize.py": "import sys\nsys.marked = 'by sitecustomize'\n",
            "lib/own.py": "def own(n):\n    for i in range(n):\n        yield str(i).strip()\n",
            "train.py": TRAIN
            + "import own, sitecustomize\nprint(sys.marked, list(own.own(3)), own.__file__)\n"
            "print(sys.path, sitecustomize.__file__)\n" + END,
        }
    )
    path = f"{place.program / 'lib'}:{place.program / 'site'}"
    plain, _ = place.both(place.program / "train.py", env={**BUFFERED, "PYTHONPATH": path})
    assert b"by sitecustomize ['0', '1', '2']" in plain.stdout


HANDLED = """\
import os, signal, time
told = False


def handle(number, frame):
    global told
    print("handled")
    match os.environ["CKPTD_ATTEMPT"]:
        case "1":
            sys.exit(0)
        case "2":
            told = True


def hook(step):
    global HOOK_AT
    HOOK_AT += 1
    sys.stdout.flush()
    time.sleep(0.01)
    if told:
        print("leaving early")
        sys.exit(3)


signal.signal(signal.SIGTERM, handle)
print("total", train(60))
"""


def test_its_own_handler_runs_after_the_dump(place):
    """However it ends then, it is an interruption: the next process goes on."""
    place.make({"train.py": TRAIN + HANDLED})
    script = place.program / "train.py"
    plain = run_plain([script], place.folder / "plain", env=BUFFERED)
    actions = [Action(Line(f"^step {step} ")) for step in (10, 25)]
    under = run_ckptd([script], place.folder / "under", store=place.store, env=BUFFERED, actions=actions)
    # The second goes on to its next step after the dump: that is said once, by the process behind it.
    lines = [line for line in under.stdout.splitlines(keepends=True) if line != b"handled\n"]
    assert compare(plain, under.saying(b"".join(lines))) == [], under.stderr.decode()
    assert under.stdout.count(b"handled\n") == 2
    assert len(under.processes) == 3, under.stderr.decode()


STRANGE = """\
import time
import torch
torch.manual_seed(0)
words = torch.nn.Embedding(100, 8, sparse=True)
sparse = torch.optim.SparseAdam(list(words.parameters()), lr=0.01)
class Own(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})
        self.state = {each: 0.0 for group in self.param_groups for each in group["params"]}
    def step(self):
        for each in self.state:
            self.state[each] += float(each.grad.sum())
            each.data -= 0.01 * each.grad
net = torch.nn.Linear(8, 1)
own = Own(net.parameters())

for step in range(130):
    loss = net(words(torch.randint(0, 100, (16,)))).pow(2).mean()
    for each in (sparse, own):
        each.zero_grad()
    loss.backward()
    for each in (sparse, own):
        each.step()
    time.sleep(0.02)
print(loss.item(), sum(own.state.values()))
"""


def test_optimizers_that_are_not_like_others_are_left_alone(place):
    """For as long as it takes until ckptd looks how large their state is."""
    place.make({"train.py": STRANGE})
    plain, under = place.both(place.program / "train.py")
    assert plain.status == 0, plain.stderr.decode()
    assert b"failed" not in under.stderr, under.stderr.decode()


SHY = """\
import sys
import numpy as np
import torch
class Key(int):
    def __repr__(self):
        raise RuntimeError("nobody looks at me")
class Sampler(torch.utils.data.Sampler):
    def __iter__(self):
        yield from map(Key, (3, 1, 2, 0))
    def __len__(self):
        return 4
np.random.set_bit_generator(np.random.PCG64(7))
torch.manual_seed(0)
data = torch.utils.data.TensorDataset(torch.arange(4.0))
net = torch.nn.Linear(1, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
sys.audit("open", "three arguments are the rule")
for workers in (0, 2):
    for epoch in range(2):
        for (x,) in torch.utils.data.DataLoader(data, sampler=Sampler(), num_workers=workers):
            loss = net(x + float(np.random.rand())).pow(2)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(x, loss.item())
"""


def test_what_cannot_be_noted_of_a_loader_is_nothing_to_the_program(place):
    """Indices that nobody can look at, and a global generator of numpy's that has another kind of state."""
    place.make({"train.py": SHY})
    plain, under = place.both(place.program / "train.py")
    assert plain.status == 0, plain.stderr.decode()
    assert compare(plain, under) == [], under.stderr.decode()


WATCHED = """\
import time, warnings
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
torch.manual_seed(0)
class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        seen.append(str(function))
        return function(*args, **(kwargs or {}))
class Called(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        seen.append(getattr(function, "__qualname__", str(function)))
        return function(*args, **(kwargs or {}))
class Counted(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        seen.append(getattr(function, "__qualname__", str(function)))
        return super().__torch_function__(function, types, args, kwargs or {})
def show(message, category, filename, line, *args):
    print("warned", message, line)
def train(steps):
    for step in range(steps):
        warnings.warn("once is enough")
        loss = (w - torch.rand(2)).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warned, item = next(items)
        print(step, loss.item(), seen)
        time.sleep(0.05)
warnings.showwarning = show
seen = []
counted = torch.ones(3).as_subclass(Counted)
w = torch.zeros(2, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
items = iter(enumerate(range(1000)))
for mode in (Dispatched, Called):
    with mode():
        train(30)
print(seen, counted)
"""


def test_what_watches_torch_sees_nothing_of_the_agent(place):
    """Not in the steps, and not while periodic checkpoints are taken; and warnings that were shown stay shown."""
    place.make({"train.py": WATCHED})
    _, under = place.both(place.program / "train.py", options=("-v", "--every", "5steps"))
    assert under.stderr.count(b"saved step") >= 3, under.stderr.decode()


LATE = """\
import os, signal
class Late:
    def __del__(self, set=signal.signal, kill=os.kill, pid=os.getpid()):
        set(15, 0)
        kill(pid, 15)
late = Late()
"""


def test_a_signal_behind_the_last_line_is_no_crash(place):
    """The interpreter is tidying up: the program has said all, and must not say it again."""
    place.make({"train.py": TRAIN + LATE + END})
    plain, _ = place.both(place.program / "train.py", options=["--every", "2steps"])
    assert plain.status == -signal.SIGTERM
