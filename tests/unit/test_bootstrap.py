"""The bootstrap folder is found in both kinds of installation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ckptd.bootstrap import bootstrap_folder
from ckptd.errors import CkptdError

ROOT = Path(__file__).resolve().parents[2]


def put(*parts: str | Path) -> Path:
    file = Path(*parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    return file.parent


def test_in_a_development_install(tmp_path):
    folder = put(tmp_path, "agent", "bootstrap", "sitecustomize.py")
    assert bootstrap_folder(tmp_path / "ckptd") == folder


def test_in_an_installed_wheel(tmp_path):
    folder = put(tmp_path, "ckptd_agent", "bootstrap", "sitecustomize.py")
    assert bootstrap_folder(tmp_path / "ckptd") == folder


def test_in_this_one():
    folder = bootstrap_folder()
    assert [item.name for item in folder.iterdir() if item.suffix == ".py"] == ["sitecustomize.py"]
    assert str(folder) not in sys.path


def test_an_incomplete_installation_says_so(tmp_path):
    (tmp_path / "ckptd_agent" / "bootstrap").mkdir(parents=True)
    with pytest.raises(CkptdError, match=r"no sitecustomize.py in .*; install ckptd again"):
        bootstrap_folder(tmp_path / "ckptd")
