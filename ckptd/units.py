"""systemd's units of ckptd: the files that it comes with, filled in for this installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ckptd.errors import CkptdError

NAMES = ("ckptd.service", "ckptd@.service")
_PACKAGE = Path(__file__).resolve().parent
_COMMAND = "/usr/local/bin/ckptd"
_PATH = "Environment=PATH="


def units_folder(package: Path = _PACKAGE) -> Path:
    """The folder of the unit files, with ``user/`` in it. Raises CkptdError: the installation is incomplete."""
    candidates = (
        package / "systemd",  # wheel
        package.parent / "systemd",  # pip install -e
    )
    for folder in candidates:
        if all((folder / place / name).is_file() for place in (".", "user") for name in NAMES):
            return folder
    raise CkptdError(
        f"the systemd units are missing in {candidates[0]}: install ckptd again "
        "(pip install --force-reinstall --no-deps ckptd)"
    )


def filled(name: str, *, user: bool, python: str = sys.executable) -> str:
    """A unit's text that runs the ckptd of the interpreter ``python``, and finds programs beside that first.

    It names the script ``ckptd`` where there is one: ``python -m`` would look for modules in the job's folder first.
    """
    text = (units_folder() / ("user" if user else ".") / name).read_text(encoding="utf-8")
    folder = os.path.dirname(python)
    script = os.path.join(folder, "ckptd")
    command = _quoted(script) if os.access(script, os.X_OK) else f"{_quoted(python)} -m ckptd"
    found = _escaped(folder)
    lines = [
        f'Environment="PATH={found}:{line.removeprefix(_PATH)}"'
        if line.startswith(_PATH) and folder not in line.removeprefix(_PATH).split(":")
        else line.replace(_COMMAND, command)
        if line.startswith("Exec")
        else line
        for line in text.splitlines()
    ]
    return "\n".join(lines) + "\n"


def _escaped(word: str) -> str:
    """Inside quotes of a unit: specifiers are systemd's."""
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of an Exec line, where variables are systemd's too."""
    escaped = _escaped(word).replace("$", "$$")
    return escaped if escaped == word and not set(word) & set(" \t';") else f'"{escaped}"'
