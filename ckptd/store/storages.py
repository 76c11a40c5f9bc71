"""The table of a checkpoint: which storage lies in which tensor file. See docs/format.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgpack

from ckptd.errors import DamagedError
from ckptd.memory.segment import ITEM_BYTES
from ckptd.store.manifest import MAX_FILE_BYTES, MAX_FILES, PACK
from ckptd.store.packed import unpack_whole

MAX_BYTES = 256 << 20
"""A table is no longer: some 5 million storages."""
ZSTD = ".zst"
"""What a key ends with where the entry is a zstd frame."""
_ALGORITHM = re.compile(r"[a-z0-9_]{1,32}")


@dataclass(frozen=True)
class Stored:
    """One storage of a checkpoint."""

    name: str
    """As the graph calls it."""
    dtype: str
    """A safetensors name (ckptd.memory.segment.ITEM_BYTES)."""
    nbytes: int
    digest: str
    """The hash of its bytes, hex; '' in a checkpoint of version 1."""
    file: str
    """The tensor file that holds it."""

    @property
    def key(self) -> str:
        """What the tensor file calls it."""
        return key_of(self.digest, self.nbytes) if self.digest else self.name


def key_of(digest: str, nbytes: int) -> str:
    """By what bytes are known within a job."""
    return f"{digest}-{nbytes}"


def encode_table(algorithm: str, stored: list[Stored]) -> bytes:
    """The table's file. Raises ValueError if it would be too long."""
    files = sorted({each.file for each in stored})
    numbers = {name: number for number, name in enumerate(files)}
    rows = [[s.name, s.dtype, s.nbytes, bytes.fromhex(s.digest), numbers[s.file]] for s in stored]
    data: bytes = msgpack.packb({"algorithm": algorithm, "files": files, "storages": rows})
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(stored)} storages are more than one checkpoint holds")
    return data


def decode_table(data: bytes, where: str) -> tuple[str, dict[str, Stored]]:
    """(algorithm, storages by name) of the file that encode_table made; raises DamagedError."""
    try:
        fields = unpack_whole(data)
        if not isinstance(fields, dict):
            raise ValueError("it is not a map")  # noqa: TRY004 - a wrong value, as all else here
        algorithm, files, rows = fields["algorithm"], fields["files"], fields["storages"]
        if not isinstance(algorithm, str) or not _ALGORITHM.fullmatch(algorithm):
            raise ValueError("it names no algorithm")
        if not isinstance(files, list) or len(files) > MAX_FILES or not all(map(_is_pack, files)):
            raise ValueError("its files are not tensor files")
        if not isinstance(rows, list):
            raise ValueError("its storages are not a list")  # noqa: TRY004
        table: dict[str, Stored] = {}
        for row in rows:
            each = _stored(row, files)
            if each.name in table:
                raise ValueError(f"two storages are named {each.name[:80]!r}")
            table[each.name] = each
    except (ValueError, KeyError) as error:
        raise DamagedError(f"{where} is not a table of storages: {error}") from error
    return algorithm, table


def _is_pack(name: object) -> bool:
    return isinstance(name, str) and PACK.fullmatch(name) is not None


def _stored(row: object, files: list[str]) -> Stored:
    """One row of the table; raises ValueError."""
    if not isinstance(row, list) or len(row) != 5:
        raise ValueError("a row is not one of a storage")
    name, dtype, nbytes, digest, file = row
    if not (isinstance(name, str) and isinstance(dtype, str) and dtype in ITEM_BYTES):
        raise ValueError("a storage has no name, or elements of unknown type")
    if not _is_count(nbytes, MAX_FILE_BYTES) or nbytes % ITEM_BYTES[dtype]:
        raise ValueError(f"the length of {name[:80]!r} is out of bounds")
    if not isinstance(digest, bytes) or not 16 <= len(digest) <= 64:
        raise ValueError(f"the hash of {name[:80]!r} is none")
    if not _is_count(file, len(files) - 1):
        raise ValueError(f"the file of {name[:80]!r} is none of its files")
    return Stored(name, dtype, nbytes, digest.hex(), files[file])


def _is_count(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit
