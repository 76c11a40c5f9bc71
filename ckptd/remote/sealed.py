"""JSON with its own hash in it, so that what was cut or changed is told from what is whole."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ckptd.errors import DamagedError, RefusedError
from ckptd.store.manifest import dump_json, load_json

FORMAT = 1
"""Of a remote."""
# At the start of a line and after one space, this can only be a key of the outermost map.
_SEAL = re.compile(rb'(?<=\n "seal": ")[0-9a-f]{64}(?=",?\n)')
_BLANK = "0" * 64


def seal(fields: dict[str, Any]) -> bytes:
    """The text of a file."""
    data = dump_json({"format": FORMAT, **fields, "seal": _BLANK})
    return _SEAL.sub(hashlib.blake2b(data, digest_size=32).hexdigest().encode(), data, count=1)


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """What is in a file, less format and seal. Raises DamagedError, RefusedError (of a newer format)."""
    found = _SEAL.findall(data)
    if len(found) != 1:
        raise DamagedError(f"{where} is cut short or damaged: its seal is not in it")
    blank = _SEAL.sub(_BLANK.encode(), data)
    if hashlib.blake2b(blank, digest_size=32).hexdigest().encode() != found[0]:
        raise DamagedError(f"{where} is damaged: it doesn't match its seal")
    try:
        fields = load_json(data)
    except ValueError as error:
        raise DamagedError(f"{where} can't be read: {error}") from error
    version = fields.pop("format", None)
    del fields["seal"]
    if not isinstance(version, int) or isinstance(version, bool):
        raise DamagedError(f"{where} names no format")
    if version > FORMAT:
        raise RefusedError(f"{where} is of format {version}, this ckptd reads {FORMAT}: update ckptd")
    return fields
