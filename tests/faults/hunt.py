"""Bytes that no writer wrote, found by coverage: scripts/fuzz-bytes [--minutes M] [--keep] [manifest|table|...]

For M minutes in all, each of the decoders below gets inputs that lead it where it has not been (atheris). A broken
promise ends it: an error that is not one of ckptd's own sentences, more than ten seconds, more than a gigabyte.
What tests/faults/test_decoding.py tries in a moment, this tries some million times.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Nothing of ckptd yet: what is imported before it is instrumented gives no hints.

ROOT = Path(__file__).parents[2]
SECONDS, MEGABYTES = 10, 1024
"""That one input may take."""
LONGEST = 1 << 15
_SEAL = re.compile(rb'(?<=\n "seal": ")[0-9a-f]{64}(?=",?\n)')
_RECORD = re.compile(rb'(?<=\n "hash": "blake2b_128:)[0-9a-f]{32}(?=",?\n)')

Decode = Callable[[bytes], object]


def manifest(data: bytes) -> None:
    """A manifest whose own hash is made right."""
    from ckptd.store.manifest import OWN_HASH, decode

    decode(_sealed(data, OWN_HASH, 16), "it")


def table(data: bytes) -> None:
    """A checkpoint's table of storages."""
    from ckptd.store.storages import decode_table

    decode_table(data, "it")


def graph(data: bytes) -> None:
    """A graph as show, diff and export read it."""
    from faults.walking import walk

    walk(data)


def document(data: bytes) -> None:
    """A graph as a resume reads it."""
    from faults.walking import unpack

    unpack(data)


def head(data: bytes) -> None:
    """The head of a tensor file; its length and padding are made right."""
    from ckptd.errors import DamagedError
    from ckptd.store.tensorfile import ALIGNMENT, LENGTH, read_head

    for size in (47, 0):  # of the data behind it: see store_fixtures.making.SIZES
        text = data + b" " * (-(LENGTH.size + len(data)) % ALIGNMENT)
        try:
            read_head(memoryview(LENGTH.pack(len(text)) + text + bytes(size)), "it")
        except DamagedError:
            continue
    read_head(memoryview(data), "it")  # as it is


def record(data: bytes) -> None:
    """A job's record."""
    from ckptd.store.job import decode

    decode(_sealed(data, _RECORD, 16), "it")


def entry(data: bytes) -> None:
    """A checkpoint's file at a remote."""
    from ckptd.remote.job import entry_of
    from ckptd.remote.sealed import unseal

    entry_of(unseal(_sealed(data, _SEAL, 32), "it"), "000000000002-00000002", "0123abcd", "it")


TARGETS: dict[str, Decode] = {
    each.__name__: each for each in (manifest, table, graph, document, head, record, entry)
}


def _sealed(data: bytes, hole: re.Pattern[bytes], size: int) -> bytes:
    """The same, the hash in it made right."""
    data = hole.sub(b"0" * 2 * size, data)
    return hole.sub(hashlib.blake2b(data, digest_size=size).hexdigest().encode(), data)


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Inputs to begin with: what writers write. ``folder`` is for scratch."""
    from store_fixtures.making import make_checkpoint, make_job, make_segment, seal

    from ckptd.remote.job import Entry, RemoteJob
    from ckptd.remote.pieces import cut_checkpoint
    from ckptd.store.job import JobRecord, encode
    from ckptd.store.tensorfile import LENGTH
    from ckptd.store.verify import read_manifest
    from faults.walking import GRAPH

    path = make_checkpoint(
        make_job(folder / "store"), make_segment(folder / "segment", graph=GRAPH), 2, id="0" * 7 + "2"
    )
    text = (path / "manifest.json").read_bytes()
    packed = next(path.glob("*.safetensors")).read_bytes()
    (length,) = LENGTH.unpack_from(packed)
    known = read_manifest(path)
    files = tuple(file for _, file in cut_checkpoint(path, known, {}))
    written: list[bytes] = []
    far = RemoteJob(_Recorder(written), "0123abcd")  # type: ignore[arg-type]
    far.save_entry(Entry(known, text.decode(), 1.8e9, files))
    return {
        "manifest": [text, seal({"format": 1, "files": []})],
        "table": [(path / "storages.msgpack").read_bytes()],
        "graph": [GRAPH],
        "document": [GRAPH],
        "head": [
            packed[LENGTH.size : LENGTH.size + length].rstrip() + b"\0" + packed[LENGTH.size + length :]
        ],
        "record": [encode(JobRecord("0123abcd", "train", ["python", "train.py"], "/train", 1.8e9))],
        "entry": written,
    }


class _Recorder:
    """In the place of a remote: keeps what is written."""

    url = "memory://"

    def __init__(self, written: list[bytes]) -> None:
        self._written = written

    def write(self, name: str, data: bytes) -> None:
        self._written.append(data)

    def same(self, name: str, data: bytes) -> bool:
        return True


def fuzz(target: str, corpus: Path, seconds: int) -> None:
    """Fuzz one decoder in this process, which atheris ends."""
    import atheris  # not among the requirements: see CONTRIBUTING.md

    names = [
        "ckptd.store",
        "ckptd.remote",
        "ckptd_agent.graph.rows",
        "ckptd_agent.graph.document",
        "json.decoder",
    ]
    with atheris.instrument_imports(include=names):
        from ckptd.errors import CkptdError

        try:
            TARGETS[target](b"")  # so that what it imports is instrumented
        except CkptdError:
            pass  # nothing is none

    from faults.mutation import change_json, change_packed

    structured = change_packed if target in ("table", "graph", "document") else change_json

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        """Half of the time a part of the value is another, else any byte."""
        chance = random.Random(seed)
        if chance.random() < 0.5:
            try:
                return structured(data, chance)[:longest]
            except (ValueError, RecursionError):
                pass  # it is none any more
        changed: bytes = atheris.Mutate(data, longest)
        return changed

    def once(data: bytes) -> None:
        try:
            TARGETS[target](data)
        except CkptdError:
            return  # a sentence, which is what it is about

    options = [
        f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={LONGEST}",
        f"-artifact_prefix={corpus}-", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], once, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """What the arguments ask for; exit status 1, and the input in a file, if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz-bytes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=10.0, help="in all [10]")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/fuzz-bytes.json")
    parser.add_argument("--one", nargs=3, metavar=("TARGET", "CORPUS", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        fuzz(options.one[0], Path(options.one[1]), int(options.one[2]))
        return
    wanted = options.targets or list(TARGETS)
    if unknown := set(wanted) - set(TARGETS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(TARGETS)}")
    folder = Path(tempfile.mkdtemp(prefix="ckptd-fuzz-bytes-"))
    found = seeds(folder)
    seconds = max(1, int(options.minutes * 60 / len(wanted)))
    begun, tries, broken = time.monotonic(), {}, []
    for target in wanted:
        tries[target], whole = _hunt(target, folder / target, found[target], seconds)
        print(
            f"{target}: {tries[target]} inputs in {seconds} s, {'nothing found' if whole else 'BROKEN'}",
            flush=True,
        )
        if not whole:
            broken.append(target)
    if options.keep:
        from benchmarks.machine import describe, keep

        result = {"inputs": tries, "broken": broken, "seconds": round(time.monotonic() - begun, 1)}
        print(keep("fuzz-bytes", {**result, "machine": describe()}))
    if broken:
        sys.exit(f"the inputs are in {folder}")


def _hunt(target: str, corpus: Path, first: list[bytes], seconds: int) -> tuple[int, bool]:
    """Fuzz one decoder in a process of its own; (inputs tried, whether all promises were kept)."""
    corpus.mkdir()
    for number, data in enumerate(first):
        (corpus / f"seed-{number}").write_bytes(data)
    command = [sys.executable, "-m", "faults.hunt", "--one", target, str(corpus), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    if done.returncode or tried is None:
        print(done.stdout + done.stderr[-6000:], file=sys.stderr)
    return int(tried[1]) if tried else 0, done.returncode == 0 and tried is not None


if __name__ == "__main__":
    main()
