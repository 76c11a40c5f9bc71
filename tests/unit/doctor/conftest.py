"""Trees of files as a machine has them, and programs on PATH that answer as the real ones do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ckptd.doctor.machine import Machine

Programs = dict[str, str]
Make = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path) -> Make:
    """Make a machine: ``files`` by their absolute names, ``programs`` as texts of shell scripts, ``env``."""

    def make(files: dict[str, str] | None = None, programs: Programs | None = None, **env: str) -> Machine:
        root, folder = tmp_path / "root", tmp_path / "bin"
        root.mkdir()
        folder.mkdir()
        for name, text in (files or {}).items():
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, text in (programs or {}).items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        return Machine(root, {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", **env})

    return make
