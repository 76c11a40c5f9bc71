"""Runs scripts plain and under ckptd, interrupts them at chosen moments, and compares.

plain = run_plain([script, "--epochs", "2"], tmp_path / "plain")
under = run_ckptd(
    [script, "--epochs", "2"], tmp_path / "under", store=tmp_path / "store",
    actions=[Action(Line("epoch 1 done")), Action(Line("epoch 2 .*50%"), to="ckptd")],
)
assert compare(plain, under) == []
"""

from harness.live import Action, LiveRun, run_ckptd
from harness.moments import Committed, FileHas, Line, Moment, Said, Start
from harness.outcome import Outcome, compare, leftovers, unrepeated
from harness.plain import run_plain

__all__ = [
    "Action",
    "Committed",
    "FileHas",
    "Line",
    "LiveRun",
    "Moment",
    "Outcome",
    "Said",
    "Start",
    "compare",
    "leftovers",
    "run_ckptd",
    "run_plain",
    "unrepeated",
]
