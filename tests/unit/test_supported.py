"""docs/supported.md says what the programs under tests/programs show, and names tests that are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "supported.md").read_text()


def test_the_tables_are_those_of_the_programs():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "supported.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_test_that_is_named_is_there():
    named = re.findall(r"`(test_\w+\.py)?::(test_\w+)`", PAGE)
    assert named
    texts = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    last = ""
    for file, test in named:
        last = file or last
        assert f"def {test}(" in texts[last], (last, test)


def test_every_file_that_is_named_is_there():
    for path in re.findall(r"`((?:tests|scripts)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
