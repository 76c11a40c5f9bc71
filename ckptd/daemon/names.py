"""Which job a command is, and whether it may be taken up where it was left."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Identity:
    """A job's id (8 hex digits) and name."""

    id: str
    name: str
    named: bool
    """The name was given by the user."""


def identify(argv: Sequence[str], cwd: str, name: str) -> Identity:
    """The job that a command in a folder is: known by ``name``, or where that is '' by both.

    Raises:
        UsageError: the name can't be one.
    """
    if name:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"--name {name!r} can't be a name: up to 64 letters, digits, dots, dashes and underscores"
            )
        return Identity(_hash(["name", name]), name, named=True)
    return Identity(_hash(["command", list(argv), cwd]), short_name(argv), named=False)


def short_name(argv: Sequence[str]) -> str:
    """A word that reminds a person of a command: the stem of the script, module or program."""
    words = list(argv)
    program = os.path.basename(words[0])
    word = program
    if program.startswith("python"):
        for index, item in enumerate(words[1:], start=1):
            if item in ("-c", "-"):
                break
            if item == "-m" and index + 1 < len(words):
                word = words[index + 1]
                break
            if not item.startswith("-"):
                word = Path(item).name.removesuffix(".py")
                break
    return _UNFIT.sub("-", word).strip("-.")[:32] or "job"


def _hash(value: object) -> str:
    # surrogateescape: an argument need not be UTF-8
    text = json.dumps(value).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def place_key(job: str, store: Path) -> str:
    """What runtime files of a job are called: two stores may hold a job of the same id."""
    return f"{job}-{hashlib.blake2b(os.fsencode(store), digest_size=3).hexdigest()}"
