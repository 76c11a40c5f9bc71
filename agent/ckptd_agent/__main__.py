"""``python -m ckptd_agent SCRIPT``: the explicit way in, where PYTHONPATH is not looked at (-I, -E, -S)."""

from __future__ import annotations

from ckptd_agent.arm import run_script

run_script()
