"""``ckptd check``: what it says before a program runs is what the engine does when it runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from ckptd.check.report import Report, look_at
from ckptd.cli.main import main
from ckptd.errors import UsageError

TESTS = Path(__file__).resolve().parents[1]
PROGRAMS = TESTS / "programs"
EXAMPLES = TESTS.parent / "examples"
REFUSED = {"producer"}
"""Those of the programs which test_programs shows to be refused, and whose source says so."""
PLAIN = "import torch\nopt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)\n"


def written(tmp_path: Path, text: str, name: str = "train.py") -> str:
    path = tmp_path / name
    path.write_text(dedent(text))
    return str(path)


def look(tmp_path: Path, text: str) -> Report:
    return look_at(written(tmp_path, text), as_module=False)


def sentences(report: Report, level: str = "") -> list[str]:
    return [f"{each.line}: {each.what}: {each.why}" for each in report.findings if level in ("", each.level)]


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    status = main(["check", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


# ---- against the programs whose fate other tests prove ------------------------------------------


def programs() -> list[Path]:
    """All that are carried over, and some that are refused."""
    refused = [path for path in PROGRAMS.rglob("*.py") if path.stem in REFUSED]
    return sorted({*PROGRAMS.glob("*.py"), *refused})


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.stem)
def test_what_is_carried_over_is_not_refused_and_the_other_way_round(path):
    report = look_at(str(path), as_module=False)
    assert bool(report.refused) == (path.stem in REFUSED), sentences(report)
    if path.stem not in ("sums", "evolution"):  # what the programs import; one that goes by no gradients
        assert any(loop.trains and loop.safe_point for loop in report.loops)


def test_each_loop_that_is_a_safe_point_is_one_that_the_engine_follows():
    """Counted in the code that the engine runs: each of its loops ends with a call of _ck_end."""
    from ckptd_agent.source import finder

    for path in [*programs(), *EXAMPLES.glob("*.py")]:
        code = finder.compile_user("counted", str(path), path.read_bytes())
        followed = set()
        waiting = [code]
        while waiting:
            each = waiting.pop()
            waiting += [const for const in each.co_consts if hasattr(const, "co_consts")]
            if "_ck_end" in each.co_names:
                followed.add(each.co_name)
        report = look_at(str(path), as_module=False)
        own = {loop.function for loop in report.loops if loop.path == str(path) and loop.safe_point}
        assert own == followed, path


# ---- loops ---------------------------------------------------------------------------------------


def test_loops_are_told_apart(tmp_path):
    report = look(
        tmp_path,
        PLAIN
        + """\
        class Net(torch.nn.Module):
            def forward(self, x):
                for layer in self.layers:
                    x = layer(x)
                return x
        def step(x):
            x.sum().backward()
            opt.step()
        def batches():
            for each in range(3):
                yield torch.tensor(each)
        for epoch in range(2):
            for x in batches():
                step(x)
            while evaluate(x):
                pass
        total = []
        for each in range(9):
            total.append(each)
        """.replace("        ", "", 1).replace("\n        ", "\n"),
    )
    assert [(loop.line, loop.trains, loop.why) for loop in report.loops] == [
        (5, "", "in a method called forward"),
        (12, "", "in a generator"),
        (14, "step", ""),
        (15, "step", ""),
        (17, "", ""),
        (20, "", "calls nothing but builtins"),
    ]
    assert report.refused == []


def test_methods_are_looked_up_in_the_class_of_their_object(tmp_path):
    report = look(
        tmp_path,
        """
        import torch
        class Agent:
            def __init__(self):
                self.memory, self.optimizer = {}, torch.optim.Adam([])
            def update(self):
                self.optimizer.step()
        class Memory:
            def push(self, x):
                self.x = x
        agent, memory = Agent(), Memory()
        for i in range(3):
            agent.update()
        for i in range(3):
            memory.push(i)
            print(agent.memory)
        """,
    )
    assert [(loop.line, loop.trains) for loop in report.loops] == [(12, "update"), (14, "")]


def test_imports_of_the_users_own_are_followed_and_others_are_not(tmp_path, capsys):
    package = tmp_path / "project"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts" / "__init__.py").write_text("from .steps import step\n")
    (package / "parts" / "steps.py").write_text(
        "from ..deep import loss\ndef step():\n    loss().backward()\n"
    )
    (package / "deep.py").write_text(
        "import json, numpy\ndef loss():\n    for k in range(3):\n        f(k)\n"
    )
    script = written(tmp_path, "from project.parts import step\nfor i in range(3):\n    step()\n")
    status, found = as_json(capsys, script)
    assert status == 0
    assert found["verdict"] == "ok"
    names = {Path(path).relative_to(tmp_path).as_posix() for path in found["modules"]}
    assert names == {"train.py", "project/parts/__init__.py", "project/parts/steps.py", "project/deep.py"} | (
        {"project/__init__.py"} & names
    )
    assert [(Path(loop["path"]).name, loop["line"], loop["trains"]) for loop in found["loops"]] == [
        ("train.py", 2, "step"),
        ("deep.py", 3, ""),
    ]


def test_a_module_is_found_as_python_finds_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(PROGRAMS)
    before = sys.path[:]
    status, found = as_json(capsys, "-m", "pack.train")
    assert status == 0
    assert found["path"] == str(PROGRAMS / "pack" / "train.py")
    assert {Path(path).name for path in found["modules"]} >= {"train.py", "model.py", "state.py"}
    assert sys.path == before


# ---- what is refused -----------------------------------------------------------------------------

LOOP = "for i in range(3):\n    f(i).backward()\n"
CASES = [
    ("refused", "import threading\ndef work(): ...\nthreading.Thread(target=work).start()\n", 3, "Thread"),
    ("perhaps", "import threading\ndef w(): ...\nt = threading.Thread(target=w)\nt.join()\n", 3, "Thread"),
    ("refused", "from threading import Thread\nclass T(Thread):\n    def run(self): ...\n", 2, "class T"),
    (
        "refused",
        "from threading import Thread\nclass T(Thread):\n    def run(self): ...\nt = T()\nu.join()\n",
        2,
        "class T",
    ),
    (
        "perhaps",
        "from threading import Thread\nclass T(Thread):\n    def run(self): ...\nt = T()\nt.join()\n",
        2,
        "class T",
    ),
    (
        "perhaps",
        "from threading import Thread as T\ndef w(): ...\nts = [T(target=w)]\nfor t in ts:\n    t.join()\n",
        3,
        "Thread",
    ),
    ("refused", "import multiprocessing as mp\ndef w(): ...\nmp.Process(target=w).start()\n", 3, "process"),
    ("refused", "import torch.multiprocessing as mp\nmp.spawn(f)\n", 2, "trains in child processes"),
    ("perhaps", "import os\nif os.fork():\n    pass\n", 2, "os.fork"),
    ("perhaps", "import socket\ns = socket.socket()\n", 2, "is opened anew"),
    ("perhaps", "import subprocess as sp\np = sp.Popen(['ls'])\n", 2, "subprocess.Popen"),
    ("perhaps", "from subprocess import run\nrun(['ls'])\n", 2, "run again by each resume"),
    ("perhaps", "import os\nr, w = os.pipe()\n", 2, "os.pipe"),
    ("perhaps", "import torch.distributed as dist\ndist.init_process_group('gloo')\n", 2, "rank"),
    ("perhaps", "import time\nwhile time.time() < 9:\n    pass\n", 2, "may go the other way"),
    ("note", "import os\nprint(os.getpid())\n", 2, "another one"),
    ("perhaps", "import torch\nx = torch.sparse_coo_tensor(a, b)\n", 2, "while one is held"),
    ("perhaps", "x = y.to_sparse()\n", 1, "while one is held"),
    ("perhaps", "f().backward(retain_graph=True)\n", 1, "kept into the next iteration"),
    (
        "refused",
        "from torch.utils.data import DataLoader\nl = DataLoader(d, num_workers=2, multiprocessing_context='spawn')\n",
        2,
        "not forked",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("level", "text", "line", "words"), CASES, ids=[case[3] for case in CASES])
def test_what_is_refused_or_not_exact_is_found_on_its_line(level, text, line, words, tmp_path, capsys):
    script = written(tmp_path, text + LOOP)
    status, found = as_json(capsys, script)
    (finding,) = found["findings"]
    assert (finding["level"], finding["line"]) == (level, line)
    assert words in f"{finding['what']}: {finding['why']}"
    assert status == (14 if level == "refused" else 0)


def test_a_hidden_state_with_its_graph_is_found_and_a_detached_one_is_not(tmp_path):
    text = """\
    for x in data:
        {first}
        out, hidden = model(x, hidden)
        out.sum().backward()
    """
    (finding,) = look(tmp_path, text.format(first="pass")).findings
    assert (finding.line, finding.level) == (3, "perhaps")
    assert finding.what == "hidden goes from one iteration to the next"
    assert look(tmp_path, text.format(first="hidden = tuple(h.detach() for h in hidden)")).findings == []


def test_training_where_no_checkpoint_can_be_taken_is_refused(tmp_path):
    report = look(
        tmp_path,
        """\
        async def train():
            for x in data:
                x.backward()
        """,
    )
    (sentence,) = sentences(report, "refused")
    assert sentence == (
        "2: the training loop for x in data: is in a coroutine, where no checkpoint can be taken: "
        "put it into a for or while loop of a plain function"
    )


def test_a_trainer_in_a_library_is_refused_until_it_is_instrumented(tmp_path, capsys, monkeypatch):
    packages = tmp_path / "lib" / "site-packages"
    shutil.copytree(TESTS / "packages" / "fitkit", packages / "fitkit")
    script = tmp_path / "train.py"
    shutil.copy(TESTS / "packages" / "train_with_fitkit.py", script)
    monkeypatch.syspath_prepend(str(packages))
    status, found = as_json(capsys, str(script))
    assert status == 14
    (finding,) = found["findings"]
    assert finding["what"] == "trainer.fit() trains in fitkit"
    assert finding["why"].endswith("with --instrument fitkit")
    status, found = as_json(capsys, "--instrument", "fitkit", str(script))
    assert status == 0
    assert [each for each in found["findings"] if each["level"] == "refused"] == []
    training = [loop for loop in found["loops"] if loop["trains"] and loop["safe_point"]]
    assert {Path(loop["path"]).name for loop in training} == {"base.py", "optimization.py"}


# ---- for people ----------------------------------------------------------------------------------


def test_people_read_a_table_and_a_verdict():
    (script,) = [path for path in programs() if path.stem == "producer"]
    done = subprocess.run(
        [sys.executable, "-m", "ckptd", "check", "producer.py", "--an-argument-of", "the script"],
        cwd=script.parent, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 14
    assert done.stderr == ""
    assert re.search(r"^producer\.py:\d+ +for i in range\(25\) +directly +yes *$", done.stdout, re.MULTILINE)
    assert "optimizer: SGD (producer.py:" in done.stdout
    assert (
        ": refused: threading.Thread(target=produce): a dump is refused while this thread runs" in done.stdout
    )
    verdict = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"refused: 1 thing\(s\) keep it .*, the first at producer\.py:\d+", verdict), verdict
    assert "\x1b" not in done.stdout


def test_nothing_is_run_and_torch_is_not_imported(tmp_path):
    script = written(tmp_path, "raise SystemExit('it was run')\nimport torch\nfor i in range(3):\n    f(i)\n")
    code = (
        "import sys; from ckptd.cli.main import main; status = main(['check', sys.argv[1]]); "
        "assert not {'torch', 'numpy', 'zmq'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no loop here seems to train" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.py"], "nowhere.py: no such script"),
        (["-m", "no.such.module"], "no such module"),
        ([], "no script to look at"),
        (["--instrument", "no_such_package", "train.py"], "no such package"),
        (["broken.py"], "broken.py:1: "),
        (["python", "nowhere.py"], "nowhere.py: no such script"),
    ],
)
def test_mistakes_on_the_command_line_say_so(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "x = 1\n")
    written(tmp_path, "def f(:\n", "broken.py")
    assert main(["check", *words]) == UsageError.status
    assert sentence in capsys.readouterr().err
