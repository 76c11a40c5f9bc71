"""Tables that fit, and progress that shows only where somebody looks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from store_fixtures.making import ROOT

from ckptd.cli.output import Column, cut, lay_out, progress, width

COLUMNS = (Column("NAME", gives=True), Column("COUNT", right=True), Column("WHY", gives=True))


def test_columns_are_as_wide_as_they_need():
    assert lay_out(COLUMNS, [["a", "10", "long words"], ["bcd", "7", ""]]) == [
        "NAME  COUNT  WHY",
        "a        10  long words",
        "bcd       7",
    ]


@pytest.mark.parametrize("room", [30, 40, 60, 100])
def test_rows_fit_the_terminal_and_numbers_are_whole(room):
    rows = [["x" * 50, "123456789", "y" * 30], ["\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 20, "1", "z"]]
    lines = lay_out(COLUMNS, rows, room)
    assert all(width(line) <= room for line in lines)
    assert "123456789" in lines[1]


def test_what_a_store_says_cannot_steer_the_terminal():
    (line,) = lay_out((Column("A"),), [["\x1b[31mred\n\udc80"]])[1:]
    assert line == "\ufffd[31mred\ufffd\ufffd"


def test_a_text_is_cut_by_its_width():
    assert cut("abcdef", 4) == "abc\N{HORIZONTAL ELLIPSIS}"
    assert (
        cut("\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 3, 4)
        == "\N{CJK UNIFIED IDEOGRAPH-4E2D}\N{HORIZONTAL ELLIPSIS}"
    )
    assert width("e\N{COMBINING ACUTE ACCENT}") == 1


def test_no_progress_where_nobody_looks(capfd, monkeypatch):
    monkeypatch.setattr("ckptd.cli.output.PATIENCE", 0.0)
    with progress("reading", 100) as advance:
        advance(50)
        advance(100)
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal():
    ours, theirs = pty.openpty()
    code = (
        "from ckptd.cli import output; output.PATIENCE = 0.0\n"
        "with output.progress('reading', 100) as advance:\n"
        "    for _ in range(10): advance(10)\n"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # EIO: the other end is closed
            pass
        os.close(ours)
        assert process.wait() == 0
    assert b"reading" in shown
    assert b"100" in shown
