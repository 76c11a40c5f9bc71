"""Makes tests/fixtures/stores/format-2 and damaged: run it once, and never again for a format that people have.

PYTHONPATH=.:tests python -m store_fixtures.shelf FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckptd.store.draft import Way
from ckptd.store.job import JobRecord
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder, open_store
from ckptd.store.manifest import dump_json
from ckptd.store.pins import write_mark
from ckptd.store.retention import Mark
from store_fixtures.making import JOB, graph_of, make_checkpoint, make_segment, seal

GRAPH = bytes.fromhex("82a776657273696f6e01a56e6f64657390")
"""{"version": 1, "nodes": []}"""


def make_format_2(path: Path) -> None:
    """A job with two checkpoints, the second of which shares a tensor file with the first, and is pinned."""
    folder = _job(path)
    way = Way(Known(), algorithm="blake2b_128")
    with tempfile.TemporaryDirectory() as scratch:
        one = make_segment(Path(scratch) / "one", [("weight", "F32", 400), ("bias", "F32", 8)], GRAPH)
        two = make_segment(Path(scratch) / "two", [("weight", "F32", 400), ("new", "U8", 16)], GRAPH)
        facts = {"loss": 0.25, "loss_mean": 0.3, "lr": [0.1], "python": "3.11.7", "torch": "2.13.0"}
        make_checkpoint(folder, one, 100, way, id="00000100", created=1.8e9, facts=facts)
        last = make_checkpoint(folder, two, 200, way, id="00000200", created=1.8e9 + 60, facts=facts)
    write_mark(last, Mark(pinned=True, tags=("paper",)))


def make_damaged(path: Path) -> None:
    """A job with one checkpoint for each way in which a disk or a person spoils one."""
    folder = _job(path)
    with tempfile.TemporaryDirectory() as scratch:
        segment = make_segment(Path(scratch) / "one", [("weight", "F32", 400)], GRAPH)
        for step, damage in enumerate(DAMAGE, start=1):
            way = Way(Known(), algorithm="blake2b_128")
            damage(make_checkpoint(folder, segment, step, way, id=f"{step:08x}", created=1.8e9 + step))


def _job(path: Path) -> JobFolder:
    folder = open_store(path).job(JOB)
    folder.save(JobRecord(JOB, "digits", ["python", "digits.py"], "/train", 1.8e9, updated=1.8e9))
    return folder


def nothing(path: Path) -> None:
    """This one is whole."""


def flipped_tensor(path: Path) -> None:
    _change(next(path.glob("*.safetensors")), lambda data: data[:-1] + bytes([data[-1] ^ 1]))


def flipped_head(path: Path) -> None:
    _change(next(path.glob("*.safetensors")), lambda data: data[:4000] + b"\t" + data[4001:])


def cut_tensors(path: Path) -> None:
    _change(next(path.glob("*.safetensors")), lambda data: data[:-1])


def no_tensors(path: Path) -> None:
    next(path.glob("*.safetensors")).unlink()


def flipped_table(path: Path) -> None:
    _change(path / "storages.msgpack", lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])


def cut_graph(path: Path) -> None:
    _change(graph_of(path), lambda data: data[:-1])


def no_graph(path: Path) -> None:
    graph_of(path).unlink()


def empty_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"")


def no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def manifest_of_another(path: Path) -> None:
    path.rename(path.with_name("000000000099-000000ff"))


def outside(path: Path) -> None:
    _reseal(path, lambda fields: fields["files"][0].update(name="../../../job.json"))


def from_the_future(path: Path) -> None:
    _reseal(path, lambda fields: fields.update(format=99))


DAMAGE: list[Callable[[Path], None]] = [
    nothing, flipped_tensor, flipped_head, cut_tensors, no_tensors, flipped_table, cut_graph, no_graph,
    empty_manifest, no_manifest, manifest_of_another, outside, from_the_future,
]  # fmt: skip


def _change(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


def _reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads((path / "manifest.json").read_text())
    del fields["manifest_hash"]
    change(fields)
    (path / "manifest.json").write_bytes(seal(fields))


def unshelve(name: str, to: Path) -> Path:
    """A copy of a kept store, with the modes that git doesn't keep."""
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "stores" / name, to)
    for item in (to, *to.rglob("*")):
        item.chmod(0o700 if item.is_dir() else 0o600)
    return to


def _main(folder: Path) -> None:
    make_format_2(folder / "format-2")
    make_damaged(folder / "damaged")
    for path in folder.rglob("index.jsonl"):
        path.unlink()  # it has times of files, which are others in every checkout
    for path in folder.rglob("work"):
        path.rmdir()
    for path in folder.rglob("pin.json"):
        path.write_bytes(dump_json({"since": 1.8e9, "pinned": True, "tags": ["paper"]}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
