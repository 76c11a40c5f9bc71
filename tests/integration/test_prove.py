"""``ckptd prove`` on small programs: one that is exact, one of chance, one that a stop changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ckptd.errors import DiffersError, NotDeterministicError
from ckptd.prove.proof import read_stops
from ckptd.prove.runs import Conditions, Runner, Stopped
from ckptd.prove.scratch import Scratch

TRAIN = """
import os, sys, time
import torch
from torch import nn

torch.manual_seed(time.time_ns() % 2**31 if "clock" in sys.argv else 3)
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
began = time.time()
os.makedirs("out", exist_ok=True)
log = open("out/log.csv", "w")
for step in range(12):
    x = torch.randn(16, 4)
    loss = nn.functional.cross_entropy(model(x), (x.sum(1) > 0).long())
    model.zero_grad()
    loss.backward()
    with torch.no_grad():  # an optimizer takes torch longer to make than all the rest
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    print(f"{step} {loss.item():.8f} {time.time() - began:.3f} s")
    log.write(f"{step},{loss.item():.8f}\\n")
log.close()
torch.save(model.state_dict(), "out/model.pt")
"""

SPOIL = """
import gc, os, sys
if os.environ.get("CKPTD_RESUME"):
    import ckptd_agent.modes as modes

    put = modes.put

    def spoil(saved):
        put(saved)
        import torch
        for each in gc.get_objects():
            if isinstance(each, torch.nn.Linear) and each.in_features == 6:
                each.weight.data[0, 0] += 1e-3

    modes.put = spoil
"""

GENERATOR = """
import torch
from torch import nn

torch.manual_seed(3)
model = nn.Linear(4, 2)


def losses():
    for step in range(8):
        loss = model(torch.randn(16, 4)).square().mean()
        loss.backward()
        with torch.no_grad():
            model.weight -= 0.1 * model.weight.grad
            model.weight.grad = None
        yield loss.item()


print(sum(losses()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / ".git").mkdir(parents=True)
    (place / "train.py").write_text(TRAIN)
    return place


def prove(folder: Path, *words: str, env: dict[str, str] | None = None) -> tuple[int, dict, str]:
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    before = sorted(path.name for path in folder.rglob("*"))
    flags = ["--scratch", str(scratch), "--seed", "4", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "ckptd", "prove", *flags, *words], cwd=folder, env={**environment(), **(env or {})},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    assert sorted(path.name for path in folder.rglob("*")) == before, "the folder itself is left alone"
    assert list(scratch.iterdir()) == [], "the copies are removed"
    return done.returncode, json.loads(done.stdout), done.stderr


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
    return {**env, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def test_an_exact_program_is_proven(folder):
    status, found, said = prove(folder, "--stops", "1", "--", sys.executable, "train.py")
    assert (status, found["verdict"]) == (0, "identical"), found["markdown"]
    assert found["steps"] == 12
    (stop,) = found["stops"]
    assert stop["resumed"]
    assert stop["saved"] == stop["asked"]
    assert found["compared"]["parameter"] == 4
    assert "began" in found["left_out"]["names"], "what differs between plain runs is left out, and told"
    assert found["left_out"]["clocks"]["stdout"] > 0
    assert found["harm"] == []
    assert "**ckptd prove: identical.** 1 interruption, 12 training steps" in found["markdown"]
    assert "stdout and 2 files byte by byte" in found["markdown"]
    runs = ("plain, without ckptd", "plain, 1 of 2", "plain, 2 of 2", f"stopped after {stop['asked']}")
    assert said.splitlines() == [f"ckptd: running {run}" for run in runs]


def test_a_program_seeded_by_the_clock_is_told_the_switch(folder):
    status, found, _ = prove(folder, "--", sys.executable, "train.py", "clock")
    assert (status, found["verdict"]) == (NotDeterministicError.status, "not deterministic")
    assert found["remedy"]["needed"] == ["torch"]
    assert "With `torch.manual_seed(0)` they are the same" in found["markdown"]
    assert found["plain_differences"][0]["step"] == 1
    assert [run["name"] for run in found["runs"]] == ["bare", "plain-1", "plain-2"], "it is not stopped"


def test_a_tensor_that_comes_back_wrong_is_named(folder, tmp_path):
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    (spoiled / "sitecustomize.py").write_text(SPOIL)
    python_path = os.pathsep.join(filter(None, [str(spoiled), os.environ.get("PYTHONPATH")]))
    env = {"PYTHONPATH": python_path}
    status, found, _ = prove(folder, "--stops", "1", "--", sys.executable, "train.py", env=env)
    assert (status, found["verdict"]) == (DiffersError.status, "differs"), found["markdown"]
    step = found["stops"][0]["saved"]
    first, second = found["differences"][:2]
    assert (first["where"], first["step"]) == ("resume", step)
    assert [change["name"] for change in first["changes"]] == ["model.2.weight"]
    assert (second["where"], second["step"]) == ("step", step + 1)
    assert second["changes"][0]["name"] == "loss"
    sentence = f"After the stop at step {step}, `model.2.weight` did not come back as saved at step {step}"
    assert sentence in found["markdown"]
    assert found["outputs"][0]["name"] == "stdout"
    assert found["outputs"][0]["where"] == f"line {step + 1}"


def test_a_stop_that_came_to_nothing_is_told(folder, tmp_path, monkeypatch):
    (folder / "train.py").write_text(GENERATOR)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "copies").mkdir()
    runner = Runner([sys.executable, "train.py"], Scratch(folder, tmp_path / "copies"), "2s")
    done = runner.run(Conditions("stopped", stops=[3]), lambda _: None)
    assert read_stops(done.journal) == [Stopped(3, None, resumed=False)]
    assert any("generator" in line for line in done.said), done.said


def test_a_command_that_fails_by_itself_is_said(folder):
    (folder / "train.py").write_text("import sys\nsys.exit('no data here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "ckptd", "prove", "--scratch", str(folder.parent), "--", sys.executable, "train.py"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ckptd: the command fails by itself, with status 1: no data here" in done.stderr


def test_ctrl_c_leaves_nothing_behind(folder):
    hangs = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600 if 'CKPTD_JOB' in os.environ else 0)\n"
    (folder / "train.py").write_text(hangs)
    scratch = folder.parent / "scratch"
    scratch.mkdir()
    command = ["-m", "ckptd", "prove", "--scratch", str(scratch), "--", sys.executable, "train.py"]
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as prove:
        try:
            until = time.monotonic() + 60
            while (
                not (told := [path.read_text() for path in scratch.glob("*/plain-1.stdout")]) or not told[0]
            ):
                assert time.monotonic() < until
                assert prove.poll() is None
                time.sleep(0.01)
            job = psutil.Process(int(told[0]))
            prove.send_signal(signal.SIGINT)
            assert prove.wait(60) == 130
        finally:
            prove.kill()
    assert not job.is_running()
    assert list(scratch.iterdir()) == []
