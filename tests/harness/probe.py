"""What is tried on every interpreter of the machine: all that needs neither torch nor a compiled package.

``python probe.py ROOT`` prints a line of JSON for each case: its name, and what is wrong with it ('' for nothing).
It runs below interpreters that have nothing installed, so it is plain Python, without pytest.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import random
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
PROGRAMS = ROOT / "tests" / "programs"
COMPILED = ("torch", "numpy")
"""What the programs may not need."""
PREFIX = "import builtins\nout = print\ndef work(x): return x\n"


def texts() -> Iterator[tuple[str, str]]:
    """Programs: those of the regressions that need no torch, and the control flow of the rewriting's unit tests."""
    for path in sorted((PROGRAMS / "regressions").glob("*.py")):
        text = path.read_text()
        if not any(f"import {name}" in text for name in COMPILED):
            yield path.stem, text
    tree = ast.parse((ROOT / "tests" / "unit" / "engine" / "test_rewrite.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONTROL_FLOW":
            for name, text in ast.literal_eval(node.value).items():
                yield name, PREFIX + textwrap.dedent(text)


def run(text: str, compiler: Callable[[str, str], Any]) -> tuple[str, str, dict[str, bytes]]:
    """Stdout, how it ended, and the files of a program that is compiled in this way."""
    printed, ended = io.StringIO(), ""
    with tempfile.TemporaryDirectory() as folder:
        before, argv = os.getcwd(), sys.argv[:]
        os.chdir(folder)
        sys.argv[:] = ["program.py"]
        random.seed(0)
        try:
            code = compiler(text, "program.py")
            with contextlib.redirect_stdout(printed):
                exec(code, {"__name__": "__main__", "__file__": "program.py"})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises must be the same
            lines = [(each.name, each.lineno) for each in traceback.extract_tb(error.__traceback__)[1:]]
            ended = f"{type(error).__name__}: {error} {lines}"
        finally:
            os.chdir(before)
            sys.argv[:] = argv
        files = {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    return printed.getvalue(), ended, files


def plain(text: str, path: str) -> Any:
    """As the interpreter compiles it."""
    return compile(text, path, "exec", dont_inherit=True)


def rewritten(text: str, path: str) -> Any:
    """As the agent does."""
    from ckptd_agent.source import finder

    return finder.compile_user("__main__", path, text.encode())


class Points:
    """Stands in for a request: looks at the position at each possible safe point."""

    def __init__(self) -> None:
        self.passed = 0
        self.wrong = ""

    def __call__(self, loop: int, at_end: bool) -> None:
        """Called where a dump could be taken."""
        from ckptd_agent.loops import position
        from ckptd_agent.loops import record as r
        from ckptd_agent.source import table

        self.passed += 1
        found = position.find(position.innermost(sys._getframe(1)))
        records = sum(len(place.records) for place in found.places)
        where = table.LOOPS[loop].where
        if not found.trouble and records != len(r.stack) - 1:
            self.wrong = self.wrong or f"{records} of {len(r.stack) - 1} loops were found at {where}"
        if "can't be told apart" in found.trouble:
            self.wrong = self.wrong or f"{found.trouble} at {where}"


def check_programs() -> Iterator[tuple[str, str]]:
    """Rewritten programs do what plain ones do, with and without a request; the position is found at each point."""
    from ckptd_agent.loops import hooks
    from ckptd_agent.loops import record as r

    hooks.install()
    passed = 0
    for name, text in texts():
        expected = run(text, plain)
        wrong = "" if expected == run(text, rewritten) else "it differs when it is rewritten"
        points = Points()
        hooks.at_safe_point = points
        hooks.switch(True)
        requested = run(text, rewritten)
        hooks.at_safe_point = None
        hooks.switch(False)
        wrong = wrong or points.wrong
        wrong = wrong or ("" if expected == requested else "it differs while a dump is asked for")
        wrong = wrong or ("" if r.stack == [r.root] else "it left records behind")
        passed += points.passed
        del r.stack[1:]
        yield f"program: {name}", wrong
    yield "points", "" if passed > 200 else f"only {passed} possible safe points were passed"


def check_sources() -> Iterator[tuple[str, str]]:
    """Each program of the tests and examples can be rewritten."""
    from ckptd_agent.source import finder, table

    folders = [PROGRAMS, ROOT / "examples", ROOT / "tests" / "packages"]
    for path in sorted(each for folder in folders for each in folder.rglob("*.py")):
        finder.compile_user("rewritten", str(path), path.read_bytes())
        bare = any(name == "<module>" for _, name in table.SOURCES["rewritten"].bare)
        yield f"rewriting: {path.relative_to(ROOT)}", "it could not be rewritten" if bare else ""


def check_gate() -> Iterator[tuple[str, str]]:
    """What an interpreter is asked to run is read off its command line."""
    from ckptd_agent import gate

    for line, kind, target in (
        ("python train.py --lr 1", "script", "train.py"),
        ("python -u -W error -X dev train.py", "script", "train.py"),
        ("python -OOm pkg.train x", "module", "pkg.train"),
        ("python -c print()", "code", "print()"),
        ("python -", "stdin", ""),
        ("python", "stdin", ""),
    ):
        found = gate.command(line.split())
        yield f"gate: {line}", "" if tuple(found) == (kind, target) else f"it is taken for {found}"
    own = gate.command(sys.orig_argv)
    yield "gate: this process", "" if own.target == sys.orig_argv[1] else f"it is taken for {own}"


def check_protocol() -> Iterator[tuple[str, str]]:
    """Messages come over as they are, nonsense does not."""
    from ckptd import protocol
    from ckptd.errors import ProtocolError

    for message in (
        protocol.Hello(pid=1, rank=0, world_size=1, argv=["python", "\u00e9.py"], python="p|3"),
        protocol.Progress(5, 0.25, None),
        protocol.Dump("1-a", "signal", 12.5, leave=True),
        protocol.Said("so", note=True),
        protocol.Finished(),
    ):
        back = protocol.unpack(protocol.pack(message))
        yield f"protocol: {type(message).__name__}", "" if back == message else f"it came back as {back}"
    try:
        protocol.unpack(b"\x93\x01\xa4said\x81\xa4text\x01")
        yield "protocol: nonsense", "it was taken for a message"
    except ProtocolError:
        yield "protocol: nonsense", ""


def check_store() -> Iterator[tuple[str, str]]:
    """A store is made, a job's record is kept in it, and read again."""
    from ckptd.daemon.table import read_table
    from ckptd.store.job import JobRecord
    from ckptd.store.layout import open_store

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "store")
        record = JobRecord(
            id="0123abcd",
            name="job",
            argv=["a"],
            cwd="/",
            created=1.0,
            extra={"note": "n", "instrument": ["p"]},
        )
        job = store.job(record.id)
        job.path.mkdir(parents=True, exist_ok=True)
        job.save(record)
        yield "store: record", "" if job.load() == record else f"it came back as {job.load()}"
        (row,) = read_table(store)
        yield "store: table", "" if (row.name, row.note) == ("job", "n") else f"it is shown as {row}"


def check_commands() -> Iterator[tuple[str, str]]:
    """Verbs of the command line that need no supervisor."""
    from ckptd.cli.main import main

    with tempfile.TemporaryDirectory() as folder:
        for words, status in (
            (["ps", "--store", folder], 10),
            (["check", str(PROGRAMS / "gan.py")], 0),
            (["check", "--json", str(PROGRAMS / "trainer.py")], 0),
            (["check", str(PROGRAMS / "nowhere.py")], 2),
            (["run"], 2),
        ):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
                found = main(words)
            yield f"command: {words[0]}", "" if found == status else f"status {found}: {told.getvalue()}"


CHECKS = (check_programs, check_sources, check_gate, check_protocol, check_store, check_commands)


def main() -> None:
    """Run all checks; one that fails as a whole is a case of its own."""
    for check in CHECKS:
        try:
            for name, wrong in check():
                print(json.dumps([name, wrong]))
        except Exception:  # noqa: BLE001 - it is told as what it is
            print(json.dumps([check.__name__, traceback.format_exc()[-1500:]]))


if __name__ == "__main__":
    main()
