"""A built wheel carries both packages and the bootstrap, and is installed without the tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, **more) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CKPTD_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False, env=env, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_the_bootstrap_is_no_top_level_module(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "ckptd_agent/bootstrap/sitecustomize.py" in names
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"ckptd", "ckptd_agent"}


def test_the_units_of_systemd_are_in_it(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("ckptd/systemd/")}
    units = {"ckptd.service", "ckptd@.service", "user/ckptd.service", "user/ckptd@.service"}
    assert names == {f"ckptd/systemd/{name}" for name in units}


def test_an_installed_wheel_finds_its_bootstrap(wheel, tmp_path):
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel)
    code = "import sys, ckptd.bootstrap as b; print(b.bootstrap_folder()); print(b.__file__)"
    folder, module = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert Path(folder).is_relative_to(venv)
    assert Path(module).is_relative_to(venv)
    assert [path.name for path in Path(folder).glob("*.py")] == ["sitecustomize.py"]
    code = "from ckptd.units import *; print(units_folder()); print(filled('ckptd.service', user=False))"
    folder, *unit = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert Path(folder).is_relative_to(venv)
    assert f"ExecStart={venv}/bin/ckptd daemon" in unit
    # A plain start of that Python must not run it.
    code = "import sys; print(getattr(sys.modules.get('sitecustomize'), '__file__', ''))"
    assert not run(python, "-c", code, cwd=tmp_path).strip().startswith(str(venv))
