"""Under ``ckptd run`` a training program does what it does without: output, traceback and status."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness import Action, Line, Outcome, compare, leftovers, run_ckptd, run_plain, unrepeated

BUFFERED = {"PYTHONUNBUFFERED": ""}
"""As most programs run: what stdout holds at the end is written by the interpreter's own last flush."""

TRAIN = """\
import sys
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())


def train(steps):
    total = 0.0
    for step in range(steps):
        loss = model(torch.randn(8, 4)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        print(f"step {step} loss {loss.item():.9f}")
        if step == HOOK_AT:
            hook(step)
    return total


HOOK_AT = 3


def hook(step):
    pass


"""
"""A small training; what each program adds comes behind it. It has 46 lines."""

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
        assert len(under.processes) == 1
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


LOOKS = {
    # What a program can see of itself. dir(), locals() and vars() are asked where loops are open.
    "names": TRAIN
    + """\
import __main__

print(dir())
print(sorted(globals()), sorted(locals()), sorted(vars(__main__)))
print({k: v for k, v in globals().items() if k.startswith("__") and k not in ("__builtins__", "__loader__")})
print(type(__loader__), type(__builtins__), __loader__.name, __loader__.path == __file__)


class Holder:
    for name in ("a", "b"):
        print(len(name), dir())


def look(n):
    for i in range(n):
        while True:
            print(locals(), dir(), sorted(vars()), eval("i"))
            break
        for j, (k, *rest) in enumerate([(1, 2, 3)]):
            print({name: value for name, value in locals().items()})
            train(1)
    else:
        print("over", dir())
    return locals(), look.__code__.co_varnames, look.__code__.co_name


print(look(2), [dir() for _ in range(1)], (lambda x: dir())(1))
for index in range(2):
    print(dir())
    print(str(index).strip())
while index:
    index -= int(str(1).strip())
    print(dir())
exec("for q in range(2): print(str(q).strip(), 'q' in dir())")
print(dir(), sys.argv[1:], sys.path[0] != "", len(sys.modules["__main__"].__dict__))
""",
    "sources": """\
import inspect
import linecache

import beside


def search(values):
    # a comment
    for value in values:
        if str(value) == "b": return value
    else:
        return None


class Model(beside.Base):
    def fit(self):
        while True:
            if self.step():
                break


for thing in (search, Model, Model.fit, beside, beside.Base.step, beside.run):
    print(inspect.getsource(thing), inspect.getsourcelines(thing)[1], inspect.getsourcefile(thing))
print(inspect.signature(search), search.__doc__, inspect.getcomments(Model), linecache.getline(__file__, 5))
print(Model().fit(), search("abc"), beside.run(3), beside.__spec__.origin, beside.__file__, beside.__cached__)
print(beside.__spec__.loader.get_source("beside") == inspect.getsource(beside))
""",
    "tracebacks": """\
import logging
import sys
import traceback
import warnings

import beside

logging.basicConfig(stream=sys.stdout, format="%(filename)s:%(lineno)d %(funcName)s %(message)s")


def fail(n, *more):
    if n > 1:
        raise ValueError(
            f"no {n}",
        )
    warnings.warn(f"at {n}", stacklevel=2)
    logging.warning("at %d", n)
    return n


def over_lines():
    for i in range(3):
        value = (
            i
            + fail(
                i,
                [
                    fail(j)
                    for j in range(2)
                ],
            )
        )
    return value


def while_test(n=0):
    while fail(
        n
    ) < 5:
        n += 1


def in_iterable():
    for x in beside.items(
        fail(0), fail(1),
        fail(2),
    ):
        print(x)


def returned():
    for i in range(2):
        with open(__file__) as file:
            try:
                fail(i)
            finally:
                warnings.warn("finally")
    for i in range(4):
        return [fail(i),
                fail(i + 2)]


def unpack():
    for a, b in [(1, 2), (1, 2, 3)]:
        fail(0)


def not_iterable():
    for a in fail(0):
        fail(a)


def nested():
    for a in range(2):
        for b in range(2):
            try:
                fail(a + b)
            except ValueError as error:
                raise RuntimeError("outer") from error
        else:
            fail(0)


def recursive(n):
    for i in range(2):
        return recursive(n - 1) if n else fail(7)


for function in (over_lines, while_test, in_iterable, returned, unpack, not_iterable, nested, beside.deep):
    try:
        function()
    except Exception:
        traceback.print_exc(file=sys.stdout)
        stack = traceback.extract_tb(sys.exc_info()[2])
        print([(each.name, each.lineno, each.line) for each in stack])
warnings.warn("the last")
recursive(3)
""",
    # When things go is a program's business too: a model that stays fills a GPU.
    "lifetimes": """\
import sys, weakref, gc
import torch
gc.disable()

class Big:
    def __init__(self, name): self.name = name
    def __del__(self): print("gone", self.name)

def step():
    w = torch.ones(3, requires_grad=True)
    w.sum().backward()
    return w

def train():
    big = Big("in function")
    for i in range(2):
        step()
    del big
    print("after del")
    other = Big("local")
    other = None
    print("after None")

def load():
    for attempt in range(3):
        try:
            return Big(f"returned {attempt}")
        finally:
            str(attempt).strip(); step()

def load_training():
    for attempt in range(3):
        step()
        return Big("returned after training")

def items():
    for thing in [Big("item 1"), Big("item 2")]:
        step()
    print("loop over")
    thing = None
    print("thing is None")

def generator():
    try:
        for i in range(3):
            step()
            yield Big(f"yielded {i}")
    finally:
        print("generator closed")

def consume():
    for x in generator():
        step()
        break
    print("left the loop")
    x = None
    print("x is None")

def failing():
    big = Big("in a failing function")
    for i in range(3):
        step()
        raise ValueError("no")

train()
a = load(); a = None
print("a")
b = load_training(); del b
print("b")
items()
consume()
try:
    failing()
except ValueError:
    print("caught")
print("after")
c = Big("global")
for i in range(2):
    step()
del c
print("c is gone")
def refs():
    x = object()
    for i in range(2): step()
    print(sys.getrefcount(x))
refs()
def held():
    d = locals()
    y = 5
    for i in range(2): step()
    print(d)
    e = locals()
    z = 3
    print(sorted(e), e is d)
held()
""",
}
BESIDE = """\
class Base:
    def step(self):
        for i in range(3):
            self.last = str(i).strip()
        return True


def run(n):
    total = 0
    while n:
        total, n = total + n, n - len(str(n).strip())
    return total


def items(*values):
    for value in values:
        yield value


def deep():
    for i in range(3):
        for _ in items(
            1,
        ):
            print([1 // (2 - i) for _ in range(len(str(i).strip()))])
"""


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
    lines = [
        line
        for line in under.stdout.splitlines(keepends=True)
        if line not in (b"handled\n", b"leaving early\n")
    ]
    # The second goes on to its next step after the dump, and that step is done again.
    once = unrepeated(plain.stdout, b"".join(lines), 1)
    assert compare(plain, under.saying(once)) == [], under.stderr.decode()
    assert under.stdout.count(b"handled\n") == 2
    assert under.stdout.count(b"leaving early\n") == 1
    assert len(under.processes) == 3


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
