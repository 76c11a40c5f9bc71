"""The Pythons of this machine: the one that runs the tests, and others that it happens to have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OTHERS = ("3.10", "3.11", "3.12", "3.13")


def find(version: str) -> str | None:
    """A Python of this version that starts, from the PATH or from pyenv."""
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    named = shutil.which(f"python{version}")
    for candidate in [*map(str, found), *([named] if named else [])]:
        if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    return None


def every() -> list[object]:
    """As parameters of a test; what is not there is skipped and says so."""
    return [
        sys.executable,
        *(
            pytest.param(
                version, id=version, marks=[pytest.mark.skipif(find(version) is None, reason="not here")]
            )
            for version in OTHERS
        ),
    ]
