"""Bytes that no writer wrote, though all hashes are right: a sentence of ours, no crash, no hang, no memory."""

from __future__ import annotations

import hashlib
import json
import resource
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_fixtures.making import make_checkpoint, make_job, make_segment, seal

from ckptd.errors import CkptdError, DamagedError, RefusedError
from ckptd.store import compress, hashing, job
from ckptd.store.draft import Way
from ckptd.store.known import Known
from ckptd.store.manifest import NO_HASH, OWN_HASH, TABLE, decode
from ckptd.store.reader import OpenCheckpoint
from ckptd.store.verify import verify_checkpoint
from ckptd_agent.graph import document
from faults.walking import GRAPH, unpack, walk

EXAMPLES = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


EDITS = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["flip", "put", "drop", "cut", "repeat"]), st.integers(1, 255)),
    min_size=1,
    max_size=6,
)  # fmt: skip


def edited(data: bytes, edits: list[tuple[int, str, int]]) -> bytes:
    """Some bytes of it are others, more or fewer."""
    made = bytearray(data)
    for place, how, value in edits:
        at = place % max(1, len(made))
        if how == "flip" and made:
            made[at] ^= value
        elif how == "put":
            made.insert(at, value)
        elif how == "drop":
            del made[at : at + value % 5]
        elif how == "cut":
            del made[len(made) - value % 7 :]
        else:
            made[at:at] = made[at : at + value]
    return bytes(made)


def test_the_graph_itself_is_one() -> None:
    walk(GRAPH)
    assert document.unpack(GRAPH)["nodes"][7].node(8) == ["tuple", [2, 1.5]]


@EXAMPLES
@given(EDITS)
def test_a_changed_graph(edits: list[tuple[int, str, int]]) -> None:
    data = edited(GRAPH, edits)
    for read in (walk, unpack):
        try:
            read(data)
        except (DamagedError, RefusedError):
            continue


@EXAMPLES
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=7), inner, max_size=3),
            max_leaves=10,
        ).map(lambda nodes: msgpack.packb({"version": document.VERSION, "nodes": nodes, "places": nodes})),
    )
)  # fmt: skip
def test_anything_as_a_graph(data: bytes) -> None:
    for read in (walk, unpack):
        try:
            read(data)
        except (DamagedError, RefusedError):
            continue


def test_what_the_fuzzer_found() -> None:
    """scripts/fuzz-bytes."""
    rows = ["rows", "tuple", [[], [[1]], ["a"], [2]], [], [], None, None, []]
    walk(
        msgpack.packb(
            {"version": document.VERSION, "places": {"a": 1}, "modules": 2, "nodes": [None, None, None, rows]}
        )
    )
    text = b'{\n "x": {\n "hash": "blake2b_128:%b"\n}}\n'
    digest = hashlib.blake2b(text % (b"0" * 32), digest_size=16).hexdigest().encode()
    with pytest.raises(DamagedError, match="it is damaged"):
        job.decode(text % digest, "it")


BOMBS = {
    "arrays": b"\xdd\xff\xff\xff\xff" * 100_000,
    "arrays as long as it is": b"\xdd\x00\x07\xa1\x20" * 100_000,
    "maps": b"\xdf\xff\xff\xff\xff" * 1000,
    "depth": b"\x91" * 1_000_000,
    "text": b"\xdb\xff\xff\xff\xff",
    "an extension": b"\xc9\xff\xff\xff\xff\x03",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_claims_more_than_it_has_takes_no_memory(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedError, match="the checkpoint's graph can't be read"):
        document.unpack(BOMBS[name])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that shares a tensor file with one before it."""
    folder, way = tmp_path_factory.mktemp("store"), Way(Known())
    sizes = [("s0", "F32", 24), ("s1", "F32", 24)]
    place = make_job(folder / "store")
    make_checkpoint(place, make_segment(folder / "one", sizes[:1], GRAPH), 1, way)
    path = make_checkpoint(place, make_segment(folder / "two", sizes, GRAPH), 2, way)
    assert len(list(path.glob("tensors-*"))) == 2
    return path


def read_all(path: Path) -> None:
    """As a resume and ``ckptd show`` read it."""
    verify_checkpoint(path)
    with OpenCheckpoint(path) as opened:
        for name in opened.tensors:
            opened.storage(name).release()
        walk(opened.graph())


@EXAMPLES
@given(EDITS, st.sampled_from([TABLE, "graph", "tensors"]))
def test_changed_files_with_right_hashes(
    checkpoint: Path, edits: list[tuple[int, str, int]], which: str
) -> None:
    """Not what a disk does, but what another program might."""
    manifest = checkpoint / "manifest.json"
    file = next(checkpoint.glob(f"{which}*"))
    kept = {path: path.read_bytes() for path in (manifest, file)}
    fields = json.loads(kept[manifest])
    del fields["manifest_hash"]
    entry = next(each for each in fields["files"] if each["name"] == file.name)
    if which == "tensors":
        head = edited(kept[file][: entry["hashed"]], edits)
        data = head + kept[file][entry["hashed"] :]
    elif which == "graph" and file.suffix == ".zst":
        inner = edited(GRAPH, edits)
        data = head = compress.squeeze(memoryview(inner))
        fields["graph_nbytes"] = len(inner)
    else:
        data = head = edited(kept[file], edits)
    hasher = hashing.hasher(hashing.algorithm_of(entry["hash"]))
    hasher.update(head)
    written = hashing.written(hashing.algorithm_of(entry["hash"]), hasher)
    entry.update(nbytes=len(data), hashed=len(head), hash=written)
    file.unlink()  # other checkpoints may have it too
    file.write_bytes(data)
    manifest.write_bytes(seal(fields))
    try:
        read_all(checkpoint)
    except CkptdError:
        pass  # a sentence, which is what it is about
    finally:
        for path, whole in kept.items():
            path.write_bytes(whole)
    verify_checkpoint(checkpoint)


@EXAMPLES
@given(EDITS)
def test_a_changed_manifest_with_its_own_hash_right(
    checkpoint: Path, edits: list[tuple[int, str, int]]
) -> None:
    manifest = checkpoint / "manifest.json"
    kept = manifest.read_bytes()
    data = edited(OWN_HASH.sub(NO_HASH.partition(":")[2].encode(), kept), edits)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    manifest.write_bytes(OWN_HASH.sub(digest.encode(), data))
    try:
        decode(manifest.read_bytes(), "it")
        read_all(checkpoint)
    except CkptdError:
        pass  # likewise
    finally:
        manifest.write_bytes(kept)
    verify_checkpoint(checkpoint)
