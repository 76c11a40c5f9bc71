"""The manifest: what goes in comes out, and nothing else is let in."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_fixtures.making import make_manifest, seal

from ckptd.errors import DamagedError, RefusedError
from ckptd.store.manifest import GRAPH, MAX_BYTES, TABLE, FileEntry, Manifest, decode, encode, plain

HASH = "blake2b_128:" + "ab" * 16
TENSORS = "tensors-00c0ffee.safetensors"
FILES = [FileEntry(TENSORS, 8192, HASH, 4096), FileEntry(GRAPH, 3, HASH, 3), FileEntry(TABLE, 5, HASH, 5)]
FULL = make_manifest(
    7, id="00c0ffee", created=1760000000.5, files=FILES, facts={"loss": 0.5, "sources": {"a": "b"}}
)

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=20,
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


def read(data: bytes) -> Manifest:
    return decode(data, "manifest.json")


def fields() -> dict[str, Any]:
    return copy.deepcopy(asdict(FULL))


def test_round_trip():
    assert read(encode(FULL)) == FULL


def test_is_sorted_json_with_one_line_for_its_own_hash():
    text = encode(FULL).decode("ascii")
    parsed = json.loads(text)
    assert list(parsed) == sorted(parsed)
    assert text.endswith("}\n")
    assert [line for line in text.splitlines() if line.startswith(' "manifest_hash": "blake2b_128:')]


@given(st.dictionaries(st.text(), VALUES, max_size=6))
def test_any_facts_round_trip(facts):
    again = read(encode(replace(FULL, facts=facts)))
    assert again.facts == plain(facts)
    assert plain(again.facts) == again.facts


def test_facts_that_json_does_not_know_are_strings():
    facts: Any = {"loss": float("nan"), "best": float("-inf"), "key": b"\x01\xff", 3: (1, 2)}
    assert read(encode(replace(FULL, facts=facts))).facts == {
        "loss": "NaN", "best": "-Infinity", "key": "01ff", "3": [1, 2],
    }  # fmt: skip


def test_facts_cannot_forge_the_own_hash():
    forged = {"manifest_hash": HASH, "x": f'\n "manifest_hash": "{HASH}",\n', "y": {"manifest_hash": HASH}}
    assert read(encode(replace(FULL, facts=forged))).facts == forged


def test_every_flipped_bit_is_detected():
    data = encode(FULL)
    for index in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[index] ^= 1 << bit
            with pytest.raises(DamagedError):
                read(bytes(flipped))


def test_every_truncation_and_every_addition_is_detected():
    data = encode(FULL)
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            read(data[:length])
    for more in (b"\n", b" ", b"\0", data):
        with pytest.raises(DamagedError):
            read(data + more)


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_bytes_from_anywhere_are_refused(data):
    with pytest.raises(DamagedError):
        read(data)


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(sorted(asdict(FULL))), JSON),
    st.sets(st.sampled_from(sorted(asdict(FULL)))),
)
def test_right_hash_over_wrong_fields_is_refused_or_read_as_it_stands(changes, missing):
    changed = {key: value for key, value in {**fields(), **changes}.items() if key not in missing}
    try:
        manifest = read(seal(changed))
    except (DamagedError, RefusedError):
        return
    assert asdict(manifest) == changed


@pytest.mark.parametrize(
    "name",
    [
        "../tensors-00c0ffee.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "a\0b",
        ".hidden",
        "x" * 300,
        "a\n",
        "é",
    ],
)
def test_names_of_files_stay_in_the_folder(name):
    changed = fields()
    changed["files"][0]["name"] = name
    with pytest.raises(DamagedError, match="plain name"):
        read(seal(changed))


def entry(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "nbytes": 1, "hash": HASH, "hashed": 1, **changes}


GOOD = entry(GRAPH)


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1}, {"step": 10**12}, {"step": True}, {"step": 1.0}, {"id": "../../ab"}, {"id": "00C0FFEE"},
        {"job": ""}, {"format": 0}, {"created": "now"}, {"attempt": -1}, {"files": []}, {"facts": []},
        {"name": None}, {"files": [TENSORS, GRAPH]},
        {"files": [entry(TENSORS)] * 2}, {"files": [entry(TENSORS, nbytes=-1), GOOD]},
        {"files": [entry(TENSORS, nbytes=1 << 63), GOOD]}, {"files": [entry(TENSORS, hash="md5"), GOOD]},
        {"files": [entry(TENSORS, more=1), GOOD]}, {"more": 1},
    ],
)  # fmt: skip
def test_values_out_of_bounds_are_refused(change):
    with pytest.raises(DamagedError):
        read(seal({**fields(), **change}))


def test_json_that_is_too_deep_or_has_numbers_too_long_is_refused():
    deep = seal({"facts": "@"}).replace(b'"@"', b"[" * 100_000)
    long = seal({"facts": "@"}).replace(b'"@"', b"1" * 10_000)
    for data in (deep, long):
        with pytest.raises(DamagedError):
            read(reseal(data))


def test_a_hash_with_nan_beside_it_is_refused():
    with pytest.raises(DamagedError, match="NaN is not JSON"):
        read(seal({**fields(), "created": float("nan")}))


def test_newer_format_is_refused_and_told_apart_from_damage():
    newer = seal({"format": 3, "what": "is new", "id": "00c0ffee"})
    with pytest.raises(RefusedError, match="format 3, this ckptd reads 2: update ckptd"):
        read(newer)
    with pytest.raises(DamagedError):
        read(newer.replace(b'"is new"', b'"is old"'))


def test_a_manifest_has_a_largest_size():
    with pytest.raises(ValueError, match="bytes long"):
        encode(replace(FULL, facts={"x": "y" * MAX_BYTES}))
    with pytest.raises(DamagedError, match="longer than"):
        read(b" " * (MAX_BYTES + 1))


def test_what_could_not_be_read_back_is_not_written():
    wrongs: list[dict[str, Any]] = [{"step": -1}, {"id": "nothex"}, {"files": []}, {"facts": {"x": object()}}]
    for wrong in wrongs:
        with pytest.raises(ValueError):
            encode(replace(FULL, **wrong))


def reseal(data: bytes) -> bytes:
    """Text that is no JSON of ours any more, with a right hash all the same."""
    import hashlib
    import re

    blank = re.sub(rb'(?<=\n "manifest_hash": "blake2b_128:)[0-9a-f]{32}', b"0" * 32, data)
    digest = hashlib.blake2b(blank, digest_size=16).hexdigest().encode()
    return re.sub(rb'(?<=\n "manifest_hash": "blake2b_128:)0{32}', digest, blank)
