"""Experiment trackers over interruptions: every point once, none lost, one run.

Each program is stopped by SIGTERM once and, later, killed, so that points behind its last checkpoint were
already in the files. What is read back must be what an uninterrupted run left. (wandb's own process
holds its points in memory: it is stopped twice instead.)
"""

from __future__ import annotations

import json
import signal
import struct
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import Action, Line, Outcome, compare, leftovers, run_ckptd, run_plain, unrepeated

PROGRAMS = Path(__file__).resolve().parents[1] / "programs_trackers"
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}
PERIODIC = ["--every", "5steps", "--restart-delay", "0.1s"]


def installed(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def stopped_and_killed(name: str, tmp_path: Path) -> tuple[Outcome, Outcome]:
    """The program left alone, and with a SIGTERM and a SIGKILL; both in folders of tmp_path."""
    plain = run_plain([PROGRAMS / f"{name}.py"], tmp_path / "plain", env=QUIET)
    assert plain.status == 0, plain.stderr.decode()
    under = run_ckptd(
        [PROGRAMS / f"{name}.py"], tmp_path / "under", store=tmp_path / "store", env=QUIET, options=PERIODIC,
        actions=[Action(Line("^step 8 ")), Action(Line("^step 37 "), signal=signal.SIGKILL)],
    )  # fmt: skip
    assert under.status == 0, under.stderr.decode()
    assert len(under.processes) == 3, under.stderr.decode()
    assert unrepeated(plain.stdout, under.stdout, 1) == plain.stdout, under.stderr.decode()
    assert leftovers(tmp_path / "store") == []
    return plain, under


# ---- TensorBoard --------------------------------------------------------------------------------


def points(folder: Path) -> dict[str, Any]:
    """All that TensorBoard reads below a folder: by run and tag, (step, value) in their order in the files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    found: dict[str, Any] = {}
    for run in sorted({path.parent for path in folder.rglob("events.out.tfevents.*")}):
        everything = {"scalars": 0, "histograms": 0, "tensors": 0}
        read = accumulator.EventAccumulator(str(run), everything, purge_orphaned_data=False).Reload()
        tags = read.Tags()
        name = str(run.relative_to(folder))
        for tag in tags["scalars"]:
            found[f"{name} {tag}"] = [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in tags["histograms"]:
            found[f"{name} {tag}"] = [(each.step, each.histogram_value) for each in read.Histograms(tag)]
        for tag in tags["tensors"]:
            found[f"{name} {tag}"] = [
                (each.step, each.tensor_proto.SerializeToString()) for each in read.Tensors(tag)
            ]
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("board", marks=installed("tensorboard")),
        pytest.param("boardx", marks=installed("tensorboard", "tensorboardX")),
    ],
)
def test_tensorboard_reads_every_point_once(name, tmp_path):
    _, under = stopped_and_killed(name, tmp_path)
    wanted = points(tmp_path / "plain")
    assert len(wanted) == 5
    assert wanted["runs/one loss/train"][-1][0] == 59
    assert points(tmp_path / "under") == wanted, under.stderr.decode()
    files = [name.rpartition("/")[0] for name in under.files if "tfevents" in name]
    assert len(files) == len(set(files)) == 3, "one file for each writer, as without an interruption"


# ---- others -------------------------------------------------------------------------------------


def test_logging_handlers_write_every_line_once(tmp_path):
    plain, under = stopped_and_killed("logs", tmp_path)
    assert compare(plain, under.saying(plain.stdout)) == []


@installed("mlflow")
def test_mlflow_has_one_run_with_every_point_once(tmp_path):
    plain, under = stopped_and_killed("flow", tmp_path)

    def metrics(outcome: Outcome) -> dict[str, list[list[bytes]]]:
        """By metric: value and step of each line; the time goes."""
        return {
            name.partition("/metrics/")[2]: [line.split()[1:] for line in data.splitlines()]
            for name, data in outcome.files.items()
            if "/metrics/" in name
        }

    def named(outcome: Outcome) -> list[str]:
        """Files of the run, without the ids that it and its experiment drew."""
        return sorted(name.split("/", 3)[-1] for name in outcome.files if name.count("/") > 2)

    assert len(metrics(plain)["loss"]) == 60
    assert metrics(under) == metrics(plain)
    assert named(under) == named(plain)


def history(folder: Path) -> list[tuple[str, list[tuple[int, int]]]]:
    """wandb's offline files in their order: id of the run, (step, logged number) of each point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        messages = import_module("wandb.proto.wandb_internal_pb2")
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        logged = []
        for data in records(path.read_bytes()):
            record = messages.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
                logged.append((values["_step"], values["number"]))
        found.append((path.stem.removeprefix("run-"), logged))
    return found


def records(data: bytes) -> list[bytes]:
    """A file of records as LevelDB's logs have them, in blocks of 32 KiB behind a header of 7 bytes."""
    found, at, part = [], 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(part)
            part = b""
    return found


@installed("wandb")
def test_wandb_goes_on_with_its_run_and_its_steps(tmp_path):
    private = ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
    env = {**QUIET, **{name: str(tmp_path / "private") for name in private}}
    under = run_ckptd(
        [PROGRAMS / "bees.py"], tmp_path / "under", store=tmp_path / "store", env=env,
        actions=[Action(Line("^step 8 ")), Action(Line("^step 30 "))],
    )  # fmt: skip
    assert under.status == 0, under.stderr.decode()
    parts = history(tmp_path / "under")
    assert len(parts) == 3, under.stderr.decode()
    assert len({run for run, _ in parts}) == 1
    assert [point for _, logged in parts for point in logged] == [(step, step + 1) for step in range(60)]
    assert b"wandb is offline and holds what is logged in memory" in under.stderr


def test_every_program_has_a_test():
    text = Path(__file__).read_text()
    named = [path.stem for path in PROGRAMS.glob("*.py") if f'"{path.stem}' in text]
    assert len(named) == len(list(PROGRAMS.glob("*.py"))) > 0
