"""The run that nobody disturbs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.outcome import Outcome, environment, files_below

_seen: dict[tuple[object, ...], Outcome] = {}


def run_plain(
    script_args: Sequence[str | Path],
    cwd: Path,
    *,
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
    deadline: float = 180.0,
) -> Outcome:
    """Run ``python SCRIPT ARGS...`` in ``cwd`` (made if it isn't there) and tell what came of it.

    The same command with the same environment and script text is run once a session; ``cwd`` stays
    empty when the answer is known already. ``deadline`` in seconds.
    """
    command = [sys.executable, *map(str, script_args)]
    script = Path(command[1])
    text = script.read_bytes() if script.is_file() else b""
    where = "" if script.is_absolute() else str(cwd)
    key = (tuple(command), tuple(sorted((env or {}).items())), text, stdin, where)
    if key not in _seen:
        cwd.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment(env),
            input=stdin,
            capture_output=True,
            timeout=deadline,
            check=False,
        )
        _seen[key] = Outcome(done.returncode, done.stdout, done.stderr, files_below(cwd))
    return _seen[key]
