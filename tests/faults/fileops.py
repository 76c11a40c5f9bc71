"""The library that stands between a program and the disk (fileops.c), built with the C compiler that is here."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fileops.c")


def compiler() -> str | None:
    """The C compiler; None where there is none, or no LD_PRELOAD."""
    return shutil.which("cc") or shutil.which("gcc") if os.uname().sysname == "Linux" else None


def build(folder: Path) -> Path:
    """Compile it into ``folder``, unless it is there; returns the library. There must be a compiler."""
    library = folder / "fileops.so"
    if not library.exists():
        found = compiler()
        assert found is not None
        subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def preload(library: Path, under: Path, **more: Path) -> dict[str, str]:
    """The environment of a program whose calls below ``under`` it takes; ``more``: TRACE, FAULT."""
    named = {f"FILEOPS_{name}": str(path) for name, path in more.items()}
    return {"LD_PRELOAD": str(library), "FILEOPS_UNDER": str(under), **named}


def loaded() -> bool:
    """Whether this process runs with it."""
    return hasattr(ctypes.CDLL(None), "fileops_arm")


def arm(at: int) -> None:
    """Have this process killed at its ``at``-th change from now on."""
    ctypes.CDLL(None).fileops_arm(ctypes.c_long(at))


def count() -> int:
    """Changes since arm(), or since the start."""
    function = ctypes.CDLL(None).fileops_count
    function.restype = ctypes.c_long
    return int(function())


class Fault:
    """What calls below the folder meet, from now on until it is changed: for the FAULT file of preload()."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def set(self, name: str = "", *, milliseconds: int = 0, reads: bool = False) -> None:
        """Let calls that change something (and others, with ``reads``) fail with this errno, or only be slow."""
        code = getattr(errno, name) if name else 0
        part = self.file.with_name(self.file.name + ".part")
        part.write_text(f"{code} {milliseconds} {int(reads)}\n")
        part.replace(self.file)

    def clear(self) -> None:
        """All is well again."""
        self.file.unlink(missing_ok=True)
