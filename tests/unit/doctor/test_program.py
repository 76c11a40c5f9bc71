"""What is said of commands, by real interpreters that look where the agent would be found."""

import os
import sys
from pathlib import Path

import pytest

from ckptd.doctor.findings import LOSES, NOTES, WARNS
from ckptd.doctor.machine import Machine
from ckptd.doctor.notice import TORCHRUN
from ckptd.doctor.program import look_at, numbers, socket_findings, torchrun


def look(*argv, **env):
    return look_at(argv, Machine(env={**os.environ, **env}))


def severities(program):
    return {each.what: each.severity for each in program.findings}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("raise SystemExit('it was run')\n")
    return str(path)


def test_a_program_that_can_be_saved(script):
    program = look(sys.executable, script, PYTHONPATH="")
    assert program.reachable
    assert {each.what for each in program.findings} <= {"sitecustomize"}  # a Python may bring one of its own
    assert program.version == ".".join(map(str, sys.version_info[:3]))
    assert numbers(program.torch) >= (2, 4)


@pytest.mark.parametrize("flag", ["-I", "-E", "-S", "-uE"])
def test_flags_that_shut_the_agent_out(script, flag):
    program = look(sys.executable, flag, script)
    assert severities(program) == {"command": LOSES}
    assert "without that flag" in program.findings[0].mend


@pytest.mark.parametrize("line", ["#!{python} -I", "#!{python} -uS", "#!/usr/bin/env -S {python} -E"])
def test_flags_in_a_scripts_first_line_do_so_too(tmp_path, line):
    path = tmp_path / "train"
    path.write_text(line.format(python=sys.executable) + "\nraise SystemExit('it was run')\n")
    path.chmod(0o755)
    program = look(str(path))
    assert severities(program) == {"command": LOSES}
    assert "without that flag" in program.findings[0].mend


@pytest.mark.parametrize("words", [["-c", "pass"], ["-"], []])
def test_programs_that_are_in_no_file(words):
    program = look(sys.executable, *words)
    assert severities(program) == {"command": LOSES}
    assert "in a file" in program.findings[0].mend


def test_what_is_not_python_may_start_it():
    assert severities(look("sh", "train.sh")) == {"command": WARNS}


def test_what_is_not_there():
    (found,) = look("no-such-program-anywhere").findings
    assert (found.severity, found.text) == (LOSES, "no-such-program-anywhere: no such command")


@pytest.mark.parametrize("words", [["sudo", "-E"], ["docker", "run", "image"], ["env", "-i"], ["env", "-"]])
def test_what_gives_the_program_another_environment(tmp_path, monkeypatch, script, words):
    path = tmp_path / words[0]
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program = look(*words, sys.executable, script)
    assert severities(program) == {"command": LOSES}
    assert "ckptd run -- CMD" in program.findings[0].mend


def test_env_that_only_sets_something_passes_it_on(script):
    assert severities(look("env", "X=1", sys.executable, script)) == {"command": WARNS}


def test_another_interpreter(tmp_path, script):
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho '/elsewhere|3.11'\n")
    python.chmod(0o755)
    program = look(str(python), script)
    assert severities(program) == {"command": LOSES}
    assert "/elsewhere" in program.findings[0].text


def test_a_sitecustomize_of_the_users_is_run_by_ours(tmp_path, script):
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['SEEN'] = '1'\n")
    program = look(sys.executable, script, PYTHONPATH=str(tmp_path))
    assert severities(program) == {"sitecustomize": NOTES}
    assert f"{tmp_path}/sitecustomize.py" in program.findings[0].text


def test_a_sitecustomize_before_ours_shuts_the_agent_out(tmp_path, script):
    """A wrapper such as those of environment modules, that puts its own folder first."""
    (tmp_path / "sitecustomize.py").write_text("")
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    program = look(str(python), script)
    assert severities(program) == {"sitecustomize": LOSES}
    assert f"{tmp_path}/sitecustomize.py" in program.findings[0].text


def test_a_tracer_that_runs_no_sitecustomize_but_its_own(tmp_path, monkeypatch, script):
    path = tmp_path / "opentelemetry-instrument"
    path.write_text(f"#!{sys.executable}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert severities(look(path.name, "python", script))["sitecustomize"] == LOSES


@pytest.mark.parametrize(
    ("version", "what"), [("2.3.1+cu121", LOSES), ("2.4.0", ""), (None, WARNS), ("nonsense", "")]
)
def test_versions_of_torch(tmp_path, script, version, what):
    """By its files: torch is not imported."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('imported')\n")
    if version:
        (tmp_path / "torch" / "version.py").write_text(
            f"__all__ = ['cuda']\n__version__ = '{version}'\ncuda: str = '12.1'\n"
        )
        program = look(sys.executable, script, PYTHONPATH=str(tmp_path))
        assert (program.torch, program.cuda) == (version, "12.1")
    else:
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.util as util\nfind = util.find_spec\n"
            "util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        )
        program = look(sys.executable, script, PYTHONPATH=str(tmp_path))
    assert severities(program).get("torch", "") == what


@pytest.mark.parametrize(
    ("words", "env", "torch", "seconds"),
    [
        (["torchrun", "t.py"], {}, "2.13.0", 30),
        (["python", "-m", "torch.distributed.run", "t.py"], {}, "2.13.0", 30),
        (["torchrun", "--shutdown-timeout", "90", "t.py"], {}, "2.13.0", 90),
        (["torchrun", "--shutdown_timeout=90", "t.py"], {}, "2.13.0+cpu", 90),
        (["torchrun", "t.py"], {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "60"}, "2.13.0", 60),
        (["torchrun", "t.py"], {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "60"}, "2.9.0", 30),
        (["python", "t.py"], {}, "2.13.0", None),
    ],
)
def test_how_long_torchrun_waits(words, env, torch, seconds):
    findings, notices = torchrun(words, env, torch)
    assert [(each.name, each.seconds, each.here) for each in notices] == (
        [(TORCHRUN, seconds, True)] if seconds else []
    )
    assert [each.severity for each in findings] == ([WARNS] if torch == "2.9.0" else [])


@pytest.mark.parametrize(
    ("flags", "several"),
    [
        ([], False), (["--nproc-per-node", "1", "--nnodes=1:1"], False), (["--nproc_per_node=2"], True),
        (["--nproc-per-node", "gpu"], True), (["--nnodes", "2"], True),
    ],
)  # fmt: skip
def test_several_ranks_are_not_saved_yet(flags, several):
    findings, _ = torchrun(["torchrun", *flags, "t.py"], {}, "2.13.0")
    assert [(each.what, each.severity) for each in findings] == ([("ranks", LOSES)] if several else [])


def test_the_sockets_path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    short = len(os.fsencode(tmp_path)) < 60
    assert socket_findings("0123abcd", Path("/store")) == [] or not short
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    (found,) = socket_findings("0123abcd", Path("/store"))
    assert (found.what, found.severity) == ("socket", NOTES)
    (deep / "ckptd").chmod(0o777)
    (found,) = socket_findings("0123abcd", Path("/store"))
    assert found.severity == LOSES
