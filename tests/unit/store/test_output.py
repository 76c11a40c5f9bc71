"""Tables that fit, and progress that shows only where somebody looks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import msgpack
import pytest
from store_fixtures.making import ROOT, make_checkpoint, make_segment

from ckptd.cli.output import Column, cut, lay_out, progress, stack, width
from ckptd.store.contents import WHOLE, read_contents
from ckptd.store.naming import short_names
from ckptd.store.reader import OpenCheckpoint

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


def test_where_nothing_fits_a_row_is_a_few_lines():
    assert stack(COLUMNS, ["x" * 50, "12", ""], 20) == [
        "NAME   " + "x" * 12 + "\N{HORIZONTAL ELLIPSIS}",
        "COUNT  12",
    ]


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


def on_terminal(code: str) -> bytes:
    """What a program shows on the terminal that its stderr is."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-c", f"from ckptd.cli import output; output.PATIENCE = 0.0\n{code}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # EIO: the other end is closed
            pass
        os.close(ours)
        assert process.wait() == 0, shown
    return shown


def test_progress_on_a_terminal():
    code = "with output.progress('reading', 100) as advance:\n    for _ in range(10): advance(10)\n"
    shown = on_terminal(code)
    assert b"reading" in shown
    assert b"100" in shown


def test_a_large_graph_is_read_with_a_bar(folder, tmp_path):
    # Each refers to the next, and to a tensor: a way of 5000 steps.
    nodes: list[object] = [["list", [[number + 1], [5001 + number]]] for number in range(5000)]
    tensors: list[object] = [
        ["tensor", None, [10_001], "float32", [6], [1], 0, [False], None, []] for _ in range(5000)
    ]
    nodes += [["list", []], *tensors, ["storage", "small", 24, "cpu"]]
    places = [{"key": ["__main__"], "variables": ["chain", [0]], "loops": []}]
    graph = msgpack.packb({"version": 3, "places": places, "nodes": nodes})
    ids = []
    for step in (1, 2):
        path = make_checkpoint(folder, make_segment(tmp_path / str(step), graph=graph), step)
        ids.append(path.name[13:])
    parts: list[int] = []
    with OpenCheckpoint(path) as opened:
        read_contents(opened, parts.append)
        contents = read_contents(opened)
    assert len(contents.tensors) == 5000
    assert max(len(view.path) for view in contents.tensors.values()) < 1000
    assert len(short_names(contents)) == 5000
    assert sum(parts) == WHOLE
    assert len(parts) > 4
    for words in (["show", ids[0]], ["diff", *ids]):
        words += ["--store", str(tmp_path / "store")]
        shown = on_terminal(f"from ckptd.cli.main import main; raise SystemExit(main({words!r}))")
        assert b"reading" in shown, words
        assert b"%" in shown
