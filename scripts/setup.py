"""Makes .venv and installs ckptd with its test tools into it, once.

Needs nothing but Python's standard library. What was installed is written down in a stamp, so that
a second call does nothing. A mark beside it tells an installation that was interrupted, which is
then made anew from the start.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "ckptd-installed"
MARK = VENV / "ckptd-installing"
OLDEST, NEWEST = (3, 10), (3, 13)


def main() -> int:
    """Exit status: 0 ready, 1 the installation failed, 2 this Python can't run ckptd."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(
            f"ckptd needs Python {_dotted(OLDEST)} to {_dotted(NEWEST)}, and this is "
            f"{_dotted(sys.version_info[:2])} ({sys.executable}): set PYTHON=python3.12, say, and try again",
            file=sys.stderr,
        )
        return 2
    with open(ROOT / "pyproject.toml") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two calls at once: the second finds all done
        wanted = _wanted()
        if not MARK.exists() and STAMP.is_file() and STAMP.read_text() == wanted and _works():
            return 0
        return _install(wanted)


def _install(wanted: str) -> int:
    start = time.monotonic()
    print("setting up .venv, once: this takes a minute or two", file=sys.stderr, flush=True)
    if MARK.exists() or not _works():
        shutil.rmtree(VENV, ignore_errors=True)
        if subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode:
            print("no .venv could be made: is the venv module installed (python3-venv)?", file=sys.stderr)
            return 1
    MARK.touch()
    STAMP.unlink(missing_ok=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    what = ["-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[fast,test,dev]"]
    if subprocess.run([*pip, *what], cwd=ROOT, check=False).returncode:
        print("the installation failed, for the reason above; the next call begins anew", file=sys.stderr)
        return 1
    STAMP.write_text(wanted)
    MARK.unlink()
    print(f"set up in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


def _wanted() -> str:
    """What an up to date installation was made from. The folder counts: an editable install names it."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _works() -> bool:
    """Whether .venv has a Python that starts and a pip."""
    if not PYTHON.exists():
        return False
    command = [str(PYTHON), "-c", "import pip"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    sys.exit(main())
