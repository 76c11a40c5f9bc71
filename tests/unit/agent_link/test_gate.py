"""Telling from a command line what an interpreter was asked to run, and what is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckptd_agent import gate
from ckptd_agent.gate import Command


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train.py", Command("script", "train.py")),
        ("train.py -c x -m y", Command("script", "train.py")),
        ("-u train.py", Command("script", "train.py")),
        ("-Bu -W ignore -X dev train.py", Command("script", "train.py")),
        ("-Wignore -Xdev train.py", Command("script", "train.py")),
        ("-uW ignore train.py", Command("script", "train.py")),
        ("--check-hash-based-pycs never train.py", Command("script", "train.py")),
        ("-- -odd.py", Command("script", "-odd.py")),
        ("-m pkg.mod --flag", Command("module", "pkg.mod")),
        ("-um pkg.mod", Command("module", "pkg.mod")),
        ("-mpkg.mod", Command("module", "pkg.mod")),
        ("-c pass", Command("code", "pass")),
        ("-Ic pass", Command("code", "pass")),
        ("-cpass", Command("code", "pass")),
        ("- x", Command("stdin", "")),
        ("-i", Command("stdin", "")),
        ("-W", Command("stdin", "")),
        ("", Command("stdin", "")),
    ],
)
def test_command(words: str, expected: Command) -> None:
    assert gate.command(["python", *words.split()]) == expected


@pytest.mark.parametrize(
    "words",
    [
        "-c from__multiprocessing.spawn__import__spawn_main;spawn_main() --multiprocessing-fork",
        "-c from__multiprocessing.resource_tracker__import__main;main(4)",
        "-m pip install x", "-m pip.__main__", "-m venv v", "-m ipykernel_launcher -f x",
        "-m torch.distributed.run x.py",
        "-m torch._inductor.compile_worker", "/v/bin/pip install x", "/v/bin/torchrun train.py", "/v/bin/ipython x.py",
        "/v/lib/torch/_inductor/compile_worker/__main__.py --kind=fork", "-", "",
    ],
)  # fmt: skip
def test_left_alone(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CKPTD_CLAIMED", raising=False)
    argv = [
        "python",
        *(word.replace("__", " ") if word.startswith("from") else word for word in words.split()),
    ]
    assert gate.why_not(gate.command(argv))


@pytest.mark.parametrize(
    "words",
    [
        "train.py",
        "-m pkg",
        "-m pipeline",
        "-m venv_tools",
        "pipeline.py",
        "/x/pip/train.py",
        "torchrun/train.py",
    ],
)
def test_not_left_alone(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CKPTD_CLAIMED", raising=False)
    assert gate.why_not(gate.command(["python", *words.split()])) is None


def test_below_a_claimed_process_everything_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPTD_CLAIMED", str(os.getppid()))
    assert gate.why_not(Command("script", "train.py")) == "it was started by the training process"
    monkeypatch.setenv("CKPTD_CLAIMED", str(os.getpid()))
    assert gate.why_not(Command("script", "train.py")) is None


@pytest.mark.parametrize(
    ("before", "keep", "after"),
    [
        ("B", True, "B"), ("B:a:B:b:B/", True, "B:a:b"), ("a:B:a", True, "a:B:a"), ("B:", True, "B:"),
        ("a::b", True, "a::b"), ("", True, ""), (None, True, None),
        ("B", False, None), ("B:a::B", False, "a:"), (None, False, None),
    ],
)  # fmt: skip
def test_pythonpath(
    before: str | None, keep: bool, after: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before.replace("B", str(tmp_path)))
    gate.tidy_pythonpath(str(tmp_path.resolve()), keep)
    assert os.environ.get("PYTHONPATH") == (after if after is None else after.replace("B", str(tmp_path)))
