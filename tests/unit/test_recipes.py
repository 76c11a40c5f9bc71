"""The recipes for schedulers below examples/: they can be read, and say of ckptd what is true of it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from ckptd.cli.run import run
from ckptd.errors import STOPPED, DamagedError, RefusedError
from ckptd.settings import parse_duration, parse_signals

EXAMPLES = Path(__file__).parents[2] / "examples"
JOBS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted((EXAMPLES / "slurm").glob("*.sbatch"))


def understood(words: list[str]) -> dict[str, object]:
    """The flags of a 'ckptd run ...', by click itself."""
    assert words[:2] == ["ckptd", "run"]
    found = run.make_context("run", words[2:]).params
    assert found["command"] == ("python", "train.py")
    return found


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_kubernetes(path):
    job = yaml.safe_load(path.read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a podFailurePolicy is refused with any other
    rules = job["spec"]["podFailurePolicy"]["rules"]
    by_code = {rule["action"]: rule["onExitCodes"] for rule in rules if "onExitCodes" in rule}
    assert by_code["Ignore"]["values"] == [STOPPED]
    assert by_code["FailJob"]["values"] == [DamagedError.status, RefusedError.status]
    container = pod["containers"][0]
    assert {rule["containerName"] for rule in by_code.values()} == {container["name"]}
    assert {rule["operator"] for rule in by_code.values()} == {"In"}
    assert [rule["onPodConditions"] for rule in rules if "onPodConditions" in rule] == [
        [{"type": "DisruptionTarget"}]
    ]
    flags = understood(container["command"])
    assert parse_duration(str(flags["grace"])) < pod["terminationGracePeriodSeconds"]
    kept = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "ckpts"]
    store = [each["value"] for each in container.get("env", []) if each["name"] == "CKPTD_STORE"]
    assert flags["remote"] or (store and store == kept)
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    if "spot" in path.name:
        assert pod["terminationGracePeriodSeconds"] == 15
        assert flags["every"] != "never"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_slurm(path):
    text = path.read_text()
    subprocess.run(["bash", "-n", path], check=True)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", text, re.MULTILINE))
    assert "requeue" in asked
    assert asked["open-mode"] == "append"
    line = next(line for line in text.splitlines() if " ckptd run " in line)
    launcher, *words = shlex.split(line)
    flags = understood(words)
    [(to_batch, name, lead)] = re.findall(r"^(B:)?(\w+)@(\d+)$", asked["signal"])
    assert bool(to_batch) == (launcher == "exec")
    assert launcher in ("exec", "srun")
    assert set(parse_signals(name)) < set(parse_signals(str(flags["notice_signals"])))
    assert parse_duration(str(flags["grace"])) < int(lead)
    assert str(STOPPED) in text
    assert ("scontrol requeue" in text) == (launcher == "srun")


def test_skypilot():
    task = yaml.safe_load((EXAMPLES / "skypilot" / "train.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [STOPPED]
    assert task["resources"]["use_spot"] is True
    launcher, *words = shlex.split(task["run"])
    assert launcher == "exec"
    assert understood(words)["remote"]


def test_each_is_in_the_readme():
    shown = (EXAMPLES / "README.md").read_text()
    for path in [*JOBS, *SCRIPTS, EXAMPLES / "skypilot" / "train.yaml"]:
        assert f"`{path.relative_to(EXAMPLES)}`" in shown
