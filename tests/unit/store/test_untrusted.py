"""What comes from a store may be anything: no crash, no hang, no memory without bound, nothing of it run."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from store_fixtures.making import ROOT, make_checkpoint, make_segment, pack_of, seal

from ckptd.errors import CkptdError, DamagedError
from ckptd.store import environment
from ckptd.store.contents import Contents
from ckptd.store.draft import Way
from ckptd.store.graph import NEWEST, Graph
from ckptd.store.known import Known
from ckptd.store.naming import Tree, short_names
from ckptd.store.packed import unpack_whole
from ckptd.store.reader import OpenCheckpoint
from ckptd.store.storages import decode_table
from ckptd.store.verify import verify_checkpoint

CHILD = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
REFERENCE = st.integers(-2, 9).map(lambda number: [number])
PART = st.recursive(CHILD | REFERENCE, lambda inner: st.lists(inner, max_size=5), max_leaves=12)
KINDS = st.sampled_from(
    ["list", "tuple", "dict", "set", "derived", "derived_fixed", "object", "tensor", "storage", "array", "class",
     "cell", "function", "iterator", "generator", "partial", "reduced", "rows", "value", "module", "", "nonsense"]
)  # fmt: skip
NODE = st.tuples(KINDS, st.lists(PART, max_size=9)).map(lambda pair: [pair[0], *pair[1]]) | PART
MODULE = ["object", [9], ["_parameters", [1], "_buffers", [2], "_modules", [3]], []]
DOCUMENT = st.fixed_dictionaries(
    {"version": st.integers(0, 2), "nodes": st.lists(NODE | st.just(MODULE), max_size=10)},
    optional={
        "places": st.lists(
            st.fixed_dictionaries(
                {
                    "key": PART,
                    "variables": st.lists(REFERENCE | st.text(max_size=4), max_size=8),
                    "loops": PART,
                }
            )
            | PART,
            max_size=3,
        ),
        "modules": st.dictionaries(st.text(max_size=4), PART, max_size=2) | PART,
    },
)


def walk(data: bytes) -> None:
    """All that show, diff and export do with a graph."""
    contents = Contents(Graph(data, "it"))
    json.dumps([variable.value for variable in contents.variables])
    Tree(contents, short_names(contents)).build()
    contents.graph.loops()


@settings(max_examples=150, deadline=None)
@given(DOCUMENT)
@example({"version": 2, "nodes": [["rows", "list", [[0]], [], [], None, None, [[[0]]]]]})
@example({"version": 2, "nodes": [MODULE, ["dict", ["a", [0]]], ["dict", []], ["dict", ["a", [0]]]],
          "places": [{"key": [], "variables": ["m", [0]], "loops": []}]})  # fmt: skip
def test_any_graph_reads_as_something(document):
    try:
        walk(msgpack.packb(document))
    except CkptdError:
        return


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_from_anywhere_are_no_graph(data):
    with pytest.raises((DamagedError, CkptdError)):
        Graph(data, "it")


BOMBS = [
    b"\xdd\xff\xff\xff\xff" * 100_000,  # arrays that claim 4 billion items
    b"\xdd\x00\x0f\x00\x00" * 500,
    b"\xdf\xff\xff\xff\xff" * 1000,
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\x91" * 1_000_000,
]


@pytest.mark.parametrize("bomb", range(len(BOMBS)))
def test_what_claims_more_than_it_has_takes_no_memory(bomb):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="not whole"):
        unpack_whole(BOMBS[bomb])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


TABLE = st.dictionaries(
    st.sampled_from(["algorithm", "files", "storages"]), PART | st.just("xxh3_128"), min_size=3
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=100) | PART.map(msgpack.packb) | TABLE.map(msgpack.packb))
def test_bytes_from_anywhere_are_no_table(data):
    try:
        _, table = decode_table(data, "it")
    except DamagedError:
        return
    assert table == {}  # an empty one is all that can be had by luck


@pytest.fixture
def checkpoint(folder, tmp_path):
    """A small checkpoint that shares a tensor file with one before it."""
    way = Way(Known())
    make_checkpoint(folder, make_segment(tmp_path / "a", [("a", "U8", 40)]), 1, way)
    sizes = [("a", "U8", 40), ("b", "U8", 8)]  # of one element size: "a" keeps its place, and its bytes
    path = make_checkpoint(folder, make_segment(tmp_path / "b", sizes, facts={}), 2, way)
    assert len(list(path.glob("tensors-*"))) == 2
    return path


def test_every_flipped_byte_of_every_file_is_detected(checkpoint, seeded: random.Random):
    for file in sorted(checkpoint.iterdir()):
        whole = file.read_bytes()
        step = 1 if len(whole) < 1000 else 11
        for index in range(seeded.randrange(step), len(whole), step):
            flipped = bytearray(whole)
            flipped[index] ^= 1 << seeded.randrange(8)
            file.write_bytes(flipped)
            with pytest.raises(DamagedError) as caught:
                verify_checkpoint(checkpoint)
            assert file.name in str(caught.value)
        file.write_bytes(whole)
    verify_checkpoint(checkpoint)


def test_truncation_at_every_length_is_detected_by_opening_alone(checkpoint, seeded: random.Random):
    for file in sorted(checkpoint.iterdir()):
        whole = file.read_bytes()
        step = 1 if len(whole) < 1000 else 31
        for length in range(seeded.randrange(step), len(whole), step):
            os.truncate(file, length)
            with pytest.raises(DamagedError):
                OpenCheckpoint(checkpoint)
            file.write_bytes(whole)
    with OpenCheckpoint(checkpoint) as opened:
        assert set(opened.tensors) == {"a", "b"}


@pytest.mark.parametrize("wrong", [1 << 61, 41, 0, -1, True, "40"])
def test_a_length_that_a_table_claims_is_checked_against_the_file(checkpoint, wrong):
    table = checkpoint / "storages.msgpack"
    fields: dict[str, Any] = msgpack.unpackb(table.read_bytes())
    fields["storages"][0][2] = wrong
    data = msgpack.packb(fields)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["manifest_hash"]
    entry = next(entry for entry in manifest["files"] if entry["name"] == table.name)
    entry.update(nbytes=len(data), hashed=len(data))
    table.write_bytes(data)
    (checkpoint / "manifest.json").write_bytes(seal(manifest))
    with pytest.raises(DamagedError):
        OpenCheckpoint(checkpoint)


def test_a_frame_that_grows_beyond_what_is_expected_is_cut_off(folder, tmp_path):
    zstandard = pytest.importorskip("zstandard")
    from ckptd.store.compress import expand

    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 30))
    assert len(bomb) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedError, match="damaged"):
        expand(bomb, 1000, "it")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_head_that_claims_the_world(checkpoint):
    file = pack_of_last(checkpoint)
    file.write_bytes(struct.pack("<Q", 1 << 60) + file.read_bytes()[8:])
    with pytest.raises(DamagedError, match="not a tensor file"):
        OpenCheckpoint(checkpoint)


def test_the_reader_here_knows_the_version_that_the_agent_writes():
    text = (ROOT / "agent" / "ckptd_agent" / "graph" / "document.py").read_text()
    written = re.search(r"^VERSION = (\d+)$", text, re.MULTILINE)
    assert written is not None
    assert int(written[1]) == NEWEST


def pack_of_last(checkpoint):
    return next(checkpoint.glob(f"tensors-{checkpoint.name[13:]}*"))


SECRETS = {
    "WANDB_API_KEY": "x", "HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ACCESS_KEY_ID": "x", "DB_PASSWORD": "x",
    "MY_PASSWD": "x", "GITHUB_PAT": "ghp_0123456789abcdefghijABCDEFGHIJ012345", "OPENAI": "sk-abcdef0123456789abcdef",
    "DATABASE": "postgres://me:hunter2@db/x", "BLOB": "7f3Kq9Zx2Lm8Vb4Nw6Pt1Rs5", "KEYFILE_AUTH": "x",
    "JWT": "x", "X": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "PEM": "-----BEGIN RSA PRIVATE KEY-----",
    "SESSION_COOKIE": "x", "URL": "https://a/b?sig=abc&x=1", "SLACK_WEBHOOK": "x",
    "HASH": "d41d8cd98f00b204e9800998ecf8427e",
}  # fmt: skip
PLAIN = {
    "PATH": "/usr/local/bin:/usr/bin", "HOME": "/home/me", "CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "8",
    "LANG": "C.UTF-8", "PWD": "/train", "TOKENIZERS_PARALLELISM": "false", "NCCL_SOCKET_IFNAME": "eth0",
    "SLURM_JOB_ID": "12345", "PYTHONHASHSEED": "1234567890",
    "VIRTUAL_ENV": "/home/me/venvs/experiment2026-long-name-v2",
    "RUN_NAME": "resnet50-imagenet-baseline-lr0.1", "HOSTNAME": "gpu-node-17",
}  # fmt: skip


def test_secrets_in_the_environment_are_left_out_with_their_names():
    shown = environment.shown({**SECRETS, **PLAIN})
    assert set(shown) & set(SECRETS) == set()
    assert shown == dict(sorted(PLAIN.items()))


def test_secrets_in_the_command_are_masked():
    words = [
        "python",
        "t.py",
        "--lr",
        "0.1",
        "--api-key",
        "abc",
        "--token=abc",
        "--out=/x",
        "key=1",
        "lr=3",
        "hf_abcDEF",
    ]
    assert environment.masked(words) == [
        "python", "t.py", "--lr", "0.1", "--api-key", "***", "--token=***", "--out=/x", "key=***", "lr=3", "***",
    ]  # fmt: skip
    assert environment.masked(["--token", "--lr", "1", None]) == ["--token", "--lr", "1", None]


def test_no_secret_reaches_a_manifest(folder, tmp_path, monkeypatch):
    segment = make_segment(
        tmp_path / "s", facts={"argv": ["t.py", "--password", "hunter2"], "orig_argv": ["x"]}
    )
    path = make_checkpoint(folder, segment, 1)
    assert b"hunter2" not in (path / "manifest.json").read_bytes()
    assert pack_of(path).stat().st_mode & 0o777 == 0o600
