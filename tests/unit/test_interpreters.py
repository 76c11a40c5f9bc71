"""CPython 3.10 to 3.13: what needs no torch is tried on each that is found on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import pytest

from harness.outcome import environment

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
FEWEST = 60
"""Cases that each must come through."""


def version_of(python: str) -> str:
    """'3.12' of an interpreter of CPython that starts, '' of what does not."""
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    name, _, version = done.stdout.strip().partition(" ")
    return version if done.returncode == 0 and name == "cpython" else ""


@cache
def found() -> dict[str, str]:
    """By version: an interpreter, looked for in pyenv, on the PATH, and in this very process."""
    here = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    candidates = sorted(map(str, (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python")))
    candidates += [path for version in VERSIONS if (path := shutil.which(f"python{version}"))]
    for python in candidates:
        here.setdefault(version_of(python), python)
    return {version: here[version] for version in VERSIONS if version in here}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_needs_no_torch_works_on_every_interpreter(version):
    if version not in found():
        pytest.skip(f"there is no CPython {version} here; found: {', '.join(found())}")
    # Pure Python packages are borrowed from the interpreter that runs the tests.
    borrowed = [str(ROOT), str(ROOT / "agent"), sysconfig.get_path("purelib")]
    done = subprocess.run(
        [found()[version], str(ROOT / "tests" / "harness" / "probe.py"), str(ROOT)],
        env=environment({"PYTHONPATH": os.pathsep.join(borrowed)}), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case for case in cases if case[1]] == []
    assert len(cases) >= FEWEST


def test_no_interpreter_that_is_here_is_passed_over(capsys):
    """Told each time, so that a run which had one interpreter only does not look like one that had four."""
    names = {
        path.name
        for path in (Path.home() / ".pyenv" / "versions").glob("3.*")
        if (path / "bin/python").exists()
    }
    here = {".".join(name.split(".")[:2]) for name in names if re.fullmatch(r"3\.\d+\.\d+", name)}
    here |= {version for version in VERSIONS if version_of(shutil.which(f"python{version}") or "") == version}
    assert here & {*VERSIONS} <= {*found()}
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in found()
    with capsys.disabled():
        print(f"\ninterpreters: {', '.join(f'{version} ({python})' for version, python in found().items())}")
