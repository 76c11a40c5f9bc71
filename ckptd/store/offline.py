"""Work that needs torch, done by a process of its own: ckptd itself never imports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from ckptd.errors import CkptdError


def ask(module: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Start ckptd_agent.offline.``module`` with a request; yields each line of its answer. Raises CkptdError."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", f"ckptd_agent.offline.{module}"], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with process.stdin as sink:
                json.dump(request, sink)
        except BrokenPipeError:
            pass  # it failed at its start: what it said is read below
        try:
            for line in process.stdout:
                yield json.loads(line)
            # It says a few lines at most: torch's warnings, or why it failed.
            said = process.stderr.read().strip().splitlines()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        why = said[-1] if said else f"exit status {process.returncode}"
        raise CkptdError(f"the process that uses torch for it has failed: {why}")
