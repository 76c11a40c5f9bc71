"""The manifest: the JSON file that makes a folder a checkpoint. See docs/format.md."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from ckptd.errors import DamagedError, RefusedError

FORMAT = 2
"""Version of the store's format. A reader refuses a larger one."""
MANIFEST = "manifest.json"
TABLE = "storages.msgpack"
GRAPH = "graph.msgpack"
GRAPH_ZSTD = "graph.msgpack.zst"
TENSORS_1 = "tensors.safetensors"
"""The one tensor file of a checkpoint of version 1."""
PACK = re.compile(r"(?:tensors|settled)-[0-9a-f]{8}\.safetensors")
"""Names of tensor files."""
MAX_FILES = 1024
MAX_BYTES = 16 << 20
"""A manifest is no longer."""
MAX_STEP = 10**12 - 1
"""Folders sort by step, and have 12 digits for it."""
MAX_FILE_BYTES = 1 << 62
MAX_NUMBER = 1e300
"""Of what may be a fraction, such as a time."""

ID = re.compile(r"[0-9a-f]{8}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
HASH = re.compile(r"[a-z0-9_]{1,32}:[0-9a-f]{32,128}")
# At the start of a line and after one space, this can only be a key of the outermost map: line feeds
# inside JSON strings are escaped, and inner maps are indented by more.
OWN_HASH = re.compile(rb'(?<=\n "manifest_hash": "blake2b_128:)[0-9a-f]{32}(?=",?\n)')
NO_HASH = "blake2b_128:" + "0" * 32


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint."""

    name: str
    nbytes: int
    hash: str
    """'ALGORITHM:HEX' over the first ``hashed`` bytes."""
    hashed: int = -1
    """-1: the whole file."""

    @property
    def covered(self) -> int:
        """How many bytes of the file the hash covers, from its start."""
        return self.nbytes if self.hashed < 0 else self.hashed


@dataclass(frozen=True)
class Manifest:
    """What is in a checkpoint and where it comes from. ``facts`` come from the agent as they are."""

    format: int
    id: str
    """8 hex digits."""
    job: str
    """8 hex digits."""
    name: str
    step: int
    created: float
    """Unix seconds."""
    reason: str
    """As in protocol.Dump."""
    attempt: int
    """How many times the job had been started when this was taken, from 1."""
    host: str
    files: list[FileEntry]
    facts: dict[str, Any] = field(default_factory=dict)
    """From the agent: argv, cwd, script, python, torch, sources {path: sha256 hex}, hashseed, threads,
    loss, loss_mean, lr, step_seconds, anchors, tensors, nodes, where; from the supervisor: environment, ckptd."""
    parent: str = ""
    """Id of the checkpoint before it; '' for the first."""
    branch: int = 0
    """How many times the job was told to go on from an older checkpoint."""
    branch_step: int = 0
    """The step that the last such branch began at."""
    content: int = 0
    """Bytes of all storages and of the graph."""
    graph_nbytes: int = 0
    """Bytes of the graph, not compressed."""
    written: int = 0
    """Bytes that this checkpoint wrote."""

    @property
    def folder(self) -> str:
        """Name of the checkpoint's folder."""
        return f"{self.step:012d}-{self.id}"

    @property
    def nbytes(self) -> int:
        """Bytes that it holds: what a copy of it alone would take, more or less."""
        return self.content if self.format > 1 else sum(entry.nbytes for entry in self.files)

    @property
    def new_nbytes(self) -> int:
        """Bytes that it wrote; the rest it has in common with earlier ones."""
        return self.written if self.format > 1 else self.nbytes

    @property
    def graph(self) -> FileEntry:
        """The graph's file."""
        return next(entry for entry in self.files if entry.name in (GRAPH, GRAPH_ZSTD))

    @property
    def packs(self) -> list[FileEntry]:
        """Its tensor files."""
        return [entry for entry in self.files if is_pack(entry.name)]

    def file(self, name: str) -> FileEntry:
        """The entry of a file; raises KeyError."""
        for entry in self.files:
            if entry.name == name:
                return entry
        raise KeyError(name)


def is_pack(name: str) -> bool:
    """Whether a file holds tensors."""
    return name == TENSORS_1 or PACK.fullmatch(name) is not None


def encode(manifest: Manifest) -> bytes:
    """The text of a manifest, its own hash in it. Raises ValueError if it can't be one."""
    fields = {**asdict(manifest), "files": [_file_fields(entry) for entry in manifest.files]}
    fields["facts"] = plain(manifest.facts)
    if manifest.format == 1:
        raise ValueError("version 1 is not written any more")
    _check(fields)
    data = dump_json({**fields, "manifest_hash": NO_HASH})
    if len(data) > MAX_BYTES:
        raise ValueError(f"it would be {len(data)} bytes long, {MAX_BYTES} are allowed")
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return OWN_HASH.sub(digest.encode(), data, count=1)


def _file_fields(entry: FileEntry) -> dict[str, Any]:
    return {"name": entry.name, "nbytes": entry.nbytes, "hash": entry.hash, "hashed": entry.covered}


def decode(data: bytes, where: str) -> Manifest:
    """Read a manifest that comes from ``where``.

    Raises DamagedError if a byte of it is wrong, RefusedError if its format is newer than ours.
    """
    if len(data) > MAX_BYTES:
        raise DamagedError(f"{where} is longer than {MAX_BYTES} bytes: it is not a manifest")
    found = OWN_HASH.findall(data)
    if len(found) != 1:
        raise DamagedError(f"{where} is cut short or damaged: its own hash is not in it")
    blank = OWN_HASH.sub(b"0" * 32, data)
    if hashlib.blake2b(blank, digest_size=16).hexdigest().encode() != found[0]:
        raise DamagedError(f"{where} is damaged: it doesn't match its own hash")
    try:
        fields = load_json(data)
        version = fields.get("format")
        if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
            raise RefusedError(f"{where} is of format {version}, this ckptd reads {FORMAT}: update ckptd")
        del fields["manifest_hash"]
        _check(fields)
    except (ValueError, KeyError) as error:
        raise DamagedError(f"{where} is not a manifest: {error}") from error
    files = [FileEntry(**entry) for entry in fields.pop("files")]
    return Manifest(files=files, **fields)


def plain(value: Any) -> Any:
    """What JSON can hold of a msgpack value: see docs/format.md on facts."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise ValueError(f"facts hold a {type(value).__name__}")


def dump_json(fields: dict[str, Any]) -> bytes:
    """JSON as the store writes it: sorted, indented by one space, ASCII. Raises ValueError."""
    return (json.dumps(fields, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


def load_json(data: bytes) -> dict[str, Any]:
    """A JSON map from outside; raises ValueError, whatever is wrong with it."""
    try:
        fields = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(fields, dict):
        raise ValueError("it is not a map")  # noqa: TRY004 - a wrong value, for whoever catches it
    return fields


def _finite(text: str) -> float:
    """A number too large is read as infinity otherwise, which could not be written again."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_KEYS: dict[str, type] = {
    "format": int, "id": str, "job": str, "name": str, "step": int, "created": float, "reason": str,
    "attempt": int, "host": str, "files": list, "facts": dict,
}  # fmt: skip
_KEYS_2: dict[str, type] = {
    "parent": str, "branch": int, "branch_step": int, "content": int, "graph_nbytes": int, "written": int,
}  # fmt: skip


def _check(fields: dict[str, Any]) -> None:
    """Raise ValueError unless these are the fields of a manifest, each of its type and in its bounds."""
    first = fields.get("format") == 1
    match_fields(fields, _KEYS if first else {**_KEYS, **_KEYS_2})
    for key in ("id", "job"):
        if not ID.fullmatch(fields[key]):
            raise ValueError(f"{key} is not 8 hex digits")
    if not (1 <= fields["format"] <= FORMAT and 0 <= fields["step"] <= MAX_STEP and fields["attempt"] >= 0):
        raise ValueError("format, step or attempt is out of bounds")
    if len(fields["files"]) > MAX_FILES:
        raise ValueError(f"it lists more than {MAX_FILES} files")
    for entry in fields["files"]:
        _check_file(entry, first)
    names = sorted(entry["name"] for entry in fields["files"])
    if first:
        if names != [GRAPH, TENSORS_1]:
            raise ValueError(f"its files are not {TENSORS_1} and {GRAPH}")
        return
    _check_names(names)
    _check_numbers(fields)


def _check_names(names: list[str]) -> None:
    others = [name for name in names if PACK.fullmatch(name) is None]
    if others not in ([GRAPH, TABLE], [GRAPH_ZSTD, TABLE]) or len(set(names)) != len(names):
        raise ValueError(f"its files are not one graph, one {TABLE} and tensor files")


def _check_numbers(fields: dict[str, Any]) -> None:
    if fields["parent"] and not ID.fullmatch(fields["parent"]):
        raise ValueError("parent is not 8 hex digits")
    for key in ("branch", "branch_step", "content", "graph_nbytes", "written"):
        if not 0 <= fields[key] <= MAX_FILE_BYTES:
            raise ValueError(f"{key} is out of bounds")


def _check_file(entry: Any, first: bool) -> None:
    if not isinstance(entry, dict):
        raise ValueError("an entry of files is not a map")  # noqa: TRY004
    match_fields(entry, {"name": str, "nbytes": int, "hash": str, **({} if first else {"hashed": int})})
    if not PLAIN_NAME.fullmatch(entry["name"]):
        raise ValueError(f"file name {entry['name'][:80]!r} is not a plain name")
    if not 0 <= entry["nbytes"] <= MAX_FILE_BYTES:
        raise ValueError(f"the size of {entry['name']} is out of bounds")
    if not first:
        whole = PACK.fullmatch(entry["name"]) is None
        if not 0 <= entry["hashed"] <= entry["nbytes"] or (whole and entry["hashed"] != entry["nbytes"]):
            raise ValueError(f"how much of {entry['name']} is hashed is out of bounds")
    if not HASH.fullmatch(entry["hash"]):
        raise ValueError(f"the hash of {entry['name']} is not ALGORITHM:HEX")


def match_fields(fields: dict[str, Any], kinds: dict[str, type]) -> None:
    """Raise ValueError unless the keys are exactly these, and each value of its type (or int for float)."""
    if set(fields) != set(kinds):
        odd = sorted(set(fields) ^ set(kinds))
        raise ValueError(f"{', '.join(odd)[:80]} missing or unknown")
    for key, kind in kinds.items():
        value = fields[key]
        wanted = (int, float) if kind is float else (kind,)
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{key} is not {kind.__name__}")
        # An int may be larger than any float; NaN is not at most anything.
        if kind is float and isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise ValueError(f"{key} is not a finite number")
