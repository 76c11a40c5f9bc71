"""The verbs on checkpoints, on those of a real program: as a person calls them, and as a program reads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ckptd.cli.main import VERBS, main
from ckptd.errors import CkptdError

PROGRAM = """
import os, signal, time
import numpy as np
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
for parameter in model[0].parameters():
    parameter.requires_grad_(False)
constant = torch.randn(200, 50)
turned = torch.arange(6.0).reshape(2, 3).t()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
memory = [(number, number / 2, [number], {"reward": number}) for number in range(300)]
arrays = [(np.full((2, 3), number, np.float32), str(number)) for number in range(100)]
history = []
for step in range(400):
    loss = model(torch.randn(4, 8)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(loss.item())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{len(history)}.pt")
    if step == 25:
        os.kill(os.getppid(), signal.SIGTERM)
    if step > 25:
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in it that has two checkpoints or more, and what the program saved after each step."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "train.py").write_text(PROGRAM)
    env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
    command = [
        "run",
        "--store",
        "store",
        "--name",
        "small",
        "--every",
        "10steps",
        "--keep-last",
        "2",
        "--",
        sys.executable,
        "train.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ckptd", *command], cwd=folder, env=env, capture_output=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 75, done.stderr.decode()
    assert len(ids(folder / "store")) == 2
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of that store to change."""
    return Path(shutil.copytree(made / "store", tmp_path / "store"))


def call(store: Path, verb: str, *words: object, status: int = 0) -> str:
    """What a verb prints."""
    from importlib import import_module

    command = getattr(import_module(f"ckptd.cli.{verb}"), verb)
    result = CliRunner().invoke(command, [*map(str, words), "--store", str(store)])
    if isinstance(result.exception, CkptdError):
        assert result.exception.status == status, result.exception
        return str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == status, result.output
    return result.stdout


def ids(store: Path) -> list[str]:
    return [row["id"] for row in json.loads(call(store, "ls", "--json"))]


def test_show(made):
    found = json.loads(call(made / "store", "show", "latest", "--json"))
    names = {tensor["path"]: tensor for tensor in found["tensors"]}
    weight = names["__main__.model.3.weight"]
    assert (weight["shape"], weight["dtype"], weight["device"], weight["nbytes"]) == (
        [2, 16],
        "float32",
        "cpu",
        128,
    )
    assert any("param_groups" in place for place in weight["others"])
    assert names["__main__.turned"]["stride"] == [1, 3]
    count = len(json.loads(call(made / "store", "diff", "latest", "latest", "--json"))["tensors"])
    assert 120 <= count == len([tensor for tensor in found["tensors"] if tensor["storage"]])
    facts = found["manifest"]["facts"]
    assert facts["loss"] > 0
    assert facts["loss_mean"] > 0
    assert facts["lr"] == [0.01]
    text = call(made / "store", "show", ids(made / "store")[0])
    assert "__main__.model.3.weight" in text
    assert "history " in text
    assert "torch 2" in text


def test_diff(made):
    one, other = ids(made / "store")
    found = json.loads(call(made / "store", "diff", one, other, "--json"))
    tensors = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert tensors["model.0.weight"]["change"] == "same"
    changed = tensors["model.3.weight"]
    assert changed["change"] == "changed"
    assert changed["measure"]["elements_changed"] == 32
    assert 0 < changed["measure"]["norm"] < changed["measure"]["norm_before"]
    assert 0.5 < changed["measure"]["cosine"] < 1
    old, new = found["figures"]["step"]
    assert old < new
    assert "__main__.step" in {variable["name"] for variable in found["variables"]}
    assert "tensors are the same" in call(made / "store", "diff", one, one)


READ = """
import json, sys
sys.modules["ckptd"] = sys.modules["ckptd_agent"] = None  # what is read here is read without ckptd
import torch
import torch.distributed.checkpoint as dcp
whole = torch.load(sys.argv[1], weights_only=True)
end = torch.load(f"{len(whole['history'])}.pt", weights_only=True)
from torch import nn
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
model.load_state_dict(whole["model"], strict=True)
optimizer = torch.optim.AdamW([p for p in list(model.parameters())[2:]], lr=0.5)
optimizer.load_state_dict(whole["optimizer"])
for name, value in end["model"].items():
    assert torch.equal(value, model.state_dict()[name]), name
ours = optimizer.state_dict()
assert ours["param_groups"][0]["lr"] == end["optimizer"]["param_groups"][0]["lr"]
for number, state in end["optimizer"]["state"].items():
    for name, value in state.items():
        assert torch.equal(value, ours["state"][number][name]), (number, name)
assert whole["memory"] == [(number, number / 2, [number], {"reward": number}) for number in range(300)]
assert all(torch.equal(whole["arrays"][n][0], torch.full((2, 3), float(n))) for n in range(100))
from safetensors.torch import load_file
flat = load_file(sys.argv[2])
assert torch.equal(flat["model.3.weight"], end["model"]["3.weight"])
assert torch.equal(flat["turned"], torch.arange(6.0).reshape(2, 3).t())
into = {"model.3.weight": torch.zeros(2, 16), "model.1.running_mean": torch.zeros(16)}
dcp.load(into, checkpoint_id=sys.argv[3], no_dist=True)
for name, value in into.items():
    assert torch.equal(value, end["model"][name.removeprefix("model.")]), name
print("read")
"""


def test_export_is_read_without_ckptd(made, tmp_path):
    pytest.importorskip("safetensors")
    paths = []
    for kind in ("torch", "safetensors", "dcp"):
        paths.append(tmp_path / f"out.{kind}")
        done = json.loads(call(made / "store", "export", "latest", paths[-1], "--format", kind, "--json"))
        assert done["tensors"] >= 15
        assert done["left_out"] == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.dcp", "out.safetensors", "out.torch"]
    read = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, *paths],
        cwd=made,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.stdout == "read\n", read.stderr
    assert "is there already" in call(made / "store", "export", "latest", paths[0], status=2)


def test_verify(store):
    assert call(store, "verify").count("complete") == 2
    assert [row["ok"] for row in json.loads(call(store, "verify", "--read-data", "--json"))] == [True, True]
    file = next(store.glob(f"jobs/*/checkpoints/*{ids(store)[1]}/tensors-{ids(store)[1]}*"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    call(store, "verify")
    assert "1 of 2 checkpoints is damaged" in call(store, "verify", "--read-data", status=13)
    call(store, "verify", ids(store)[0], "--read-data")


def test_forget_pin_and_rm(store):
    one, other = ids(store)
    assert "no policy was given, nothing is removed" in call(store, "forget", status=2)
    dry = json.loads(call(store, "forget", "--keep-last", 1, "--dry-run", "--json"))
    assert [(row["id"], row["done"]) for row in dry] == [(one, "would go"), (other, "kept")]
    call(store, "pin", one[:5])
    kept = json.loads(call(store, "forget", "--keep-last", 1, "--json"))
    assert [row["why"] for row in kept] == ["pinned", "newest, last 1"]
    assert "is pinned" in call(store, "rm", one, status=2)
    call(store, "pin", one, "--remove")
    call(store, "pin", one, "--tag", "paper")
    assert call(store, "forget", "--keep-tag", "paper").count("kept") == 2
    assert "1 of 2 removed" in call(store, "forget", "--keep-last", 1)
    assert ids(store) == [other]
    assert "is the last of job small" in call(store, "rm", "latest", status=2)
    call(store, "verify", "--read-data")
    assert "removed" in call(store, "rm", "latest", "--force")
    assert ids(store) == []


def test_copy(store, tmp_path):
    target = tmp_path / "other"
    first = json.loads(call(store, "copy", ids(store)[0], "--to", target, "--json"))
    assert first[0]["nbytes"] > 1000
    words = call(store, "copy", "--all", "--to", target)
    assert "is there already" in words
    assert ids(target) == ids(store)
    call(target, "verify", "--read-data")
    shared = {file.stat().st_ino for file in target.glob("jobs/*/checkpoints/*/tensors-*")}
    assert len(shared) < len(list(target.glob("jobs/*/checkpoints/*/tensors-*")))
    assert call(target, "show", "latest", "--json")
    assert json.loads(call(target, "ls", "--json"))[0]["job_name"] == "small"
    assert "name another" in call(store, "copy", "latest", "--to", store, status=2)


def test_prune(store):
    (job,) = store.glob("jobs/*")
    left = job / "work" / "deadbeef"
    left.mkdir(parents=True, exist_ok=True)
    (left / "storages.msgpack").write_bytes(bytes(5000))
    (job / "earlier-00c0ffee").mkdir()
    assert "5.0 kB would be freed" in call(store, "prune", "--dry-run")
    found = json.loads(call(store, "prune", "--json"))
    assert found["freed"] == 5000
    assert len(found["removed"]) == 2
    assert call(store, "prune") == "nothing to free\n"
    call(store, "verify", "--read-data")


@pytest.mark.parametrize("verb", ["show", "diff", "verify", "export", "copy", "pin", "rm", "forget", "prune"])
def test_each_verb_has_help_and_says_what_is_missing(verb, tmp_path, capsys):
    assert verb in VERBS
    assert main([verb, "--help"]) == 0
    assert f"ckptd {verb} [OPTIONS]" in capsys.readouterr().out
    needed = {
        "diff": ["a", "b"],
        "export": ["a", str(tmp_path / "x")],
        "copy": ["a", "--to", str(tmp_path / "y")],
    }
    words = needed.get(verb, ["a"] if verb in ("show", "verify", "pin", "rm") else [])
    words += ["--keep-last", "1"] if verb == "forget" else []
    assert main([verb, *words, "--store", str(tmp_path / "none")]) == 10
    assert capsys.readouterr().err.startswith("ckptd: there is no store at")


def test_graph_verbs_import_nothing_of_the_program(made):
    """show and diff decode in ckptd's own process: torch must not come along."""
    code = (
        "import sys; from ckptd.cli.main import main\n"
        f"status = main(['show', 'latest', '--store', {str(made / 'store')!r}])\n"
        "print(status, 'torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 False False\n"
