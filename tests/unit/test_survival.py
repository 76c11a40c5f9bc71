"""What ``scripts/bench survival`` makes of what the programs print."""

from __future__ import annotations

from pathlib import Path

from benchmarks.survival import Chain, Trial, cells, table

PLAIN = ["training 0 a", "training 1 b", "evaluation 2", "training 2 c", "training 3 d"]


def chain(at: int) -> Chain:
    found = Chain(Path(), "charlm", 1 << 20, 5.0, 3)
    found.at = at
    return found


def test_the_line_that_was_due_costs_nothing():
    assert chain(3)._lost("training 2 c", PLAIN) == 0


def test_steps_that_are_done_again_are_counted_and_output_that_is_said_again_is_a_loss():
    going_back = chain(4)
    assert going_back._lost("training 1 b", PLAIN) == 2
    assert going_back.at == 1
    assert chain(3)._lost("evaluation 2", PLAIN) == 1


def test_a_line_that_was_not_due_is_wrong():
    assert chain(1)._lost("training 3 d", PLAIN) == -1
    assert chain(1)._lost("something else", PLAIN) == -1


def test_the_table_has_a_row_for_each_size_and_phase_and_a_column_for_each_grace():
    trials = [
        Trial("charlm", 1 << 20, grace, "long step", seconds, seconds == 5, lost)
        for grace, seconds, lost in ((5.0, 5.0, 3), (5.0, 1.0, 0), (10.0, 2.0, 0), (10.0, 3.0, 0))
    ]
    result = {"cells": cells(trials)}
    assert [cell["saved"] for cell in result["cells"]] == [1, 2]
    assert [cell["killed"] for cell in result["cells"]] == [1, 0]
    assert table(result).splitlines() == [
        "| state | phase | grace 5 s | grace 10 s |",
        "|---|---|---|---|",
        "| 1 MiB | long step | 50 % of 2 (5.0 s) | 100 % of 2 (3.0 s) |",
    ]
