"""Commands that the agent has no part in: ckptd must be as good as not there."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys

import psutil
import pytest

PROGRAM = """
import os, sys
data = sys.stdin.buffer.read()
sys.stdout.buffer.write(data[::-1])
sys.stdout.flush()
os.write(2, b"to stderr\\n")
"""


def script(folder, text, name="train.py"):
    path = folder / name
    path.write_text(text)
    return path


def test_stdin_stdout_and_stderr_are_the_programs(start, tmp_path):
    source = tmp_path / "input"
    source.write_bytes(bytes(range(256)) * 1000)
    with open(source, "rb") as stdin:
        run = start(sys.executable, script(tmp_path, PROGRAM), stdin=stdin)
        assert run.wait() == 0
    assert bytes(run._out) == source.read_bytes()[::-1]
    assert run.err == "to stderr\n"


@pytest.mark.parametrize("status", [0, 1, 3, 75, 255])
def test_exit_status(start, tmp_path, status):
    run = start(sys.executable, script(tmp_path, f"import sys; sys.exit({status})"))
    assert run.wait() == status
    assert run.said == []


def test_uncaught_exception(start, tmp_path):
    path = script(tmp_path, "raise ValueError('mine')")
    plain = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    run = start(sys.executable, path)
    assert run.wait() == plain.returncode == 1
    assert run.err == plain.stderr


def test_keyboard_interrupt_of_its_own(start, tmp_path):
    run = start(sys.executable, script(tmp_path, "raise KeyboardInterrupt"))
    assert run.wait() == 128 + signal.SIGINT
    assert run.said == []


def test_death_by_signal_of_a_command_out_of_reach(start):
    run = start("sh", "-c", "kill -SEGV $$")
    assert run.wait() == 128 + signal.SIGSEGV
    assert run.said[-1] == "ckptd: the job was killed by SIGSEGV"


def test_environment_and_folder(start, tmp_path):
    text = "import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.getpgrp() == os.getpid()]))"
    run = start(sys.executable, script(tmp_path, text), env={"PYTHONPATH": "/a:/b", "MINE": "yes"})
    assert run.wait() == 0
    import json

    env, cwd, leader = json.loads(run.out)
    assert env["PYTHONPATH"].endswith(":/a:/b")
    assert env["MINE"] == "yes"
    assert env["PYTHONHASHSEED"].isdecimal()
    assert env["CKPTD_ENDPOINT"].startswith("ipc:///")
    assert cwd == str(tmp_path)
    assert leader


def test_hash_seed_of_the_user_stays(start, tmp_path):
    path = script(tmp_path, "import os; print(os.environ['PYTHONHASHSEED'])")
    run = start(sys.executable, path, env={"PYTHONHASHSEED": "42"})
    assert run.wait() == 0
    assert run.out == "42\n"


def test_signal_dispositions_are_a_plain_programs(start):
    command = [shutil.which("grep") or "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    run = start(*command)
    assert run.wait() == 0
    # 32 and 33 are the C library's own: its posix_spawn leaves them ignored, its threads set them up again.
    own = (1 << 31) | (1 << 32)
    masks = [
        [int(line.split()[1], 16) & ~own for line in text.splitlines()] for text in (run.out, plain.stdout)
    ]
    assert masks[0] == masks[1]
    assert len(masks[0]) == 2


def test_inherited_descriptors_reach_the_program_and_no_others(start):
    read, write = os.pipe()
    command = ["ls", "/proc/self/fd"]
    try:
        plain = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, pass_fds=[write]
        )
        run = start(*command, pass_fds=[write])
        assert run.wait() == 0
        assert str(write) in run.out.split()
        assert run.out == plain.stdout
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_are_passed_on(start, number):
    name = signal.Signals(number).name.removeprefix("SIG")
    run = start(
        "bash", "-c", f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.02; done"
    )
    run.line("ready")
    run.process.send_signal(number)
    assert run.wait() == 9
    assert f"got {name}" in run.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-I", "train.py"], "python -I shuts the agent out"),
        (["-E", "train.py"], "python -E shuts the agent out"),
        (["-uS", "train.py"], "python -S shuts the agent out"),
        (["-W", "ignore", "-Ec", "print('ran')"], "python -E shuts the agent out"),
        (["-c", "print('ran')"], "a program given with -c can't be saved"),
        (["-"], "a script on stdin can't be saved"),
        ([], "a program read from stdin can't be saved"),
    ],
)
def test_out_of_reach_is_said_in_one_sentence(start, tmp_path, words, sentence):
    path = script(tmp_path, "print('ran')")
    with open(path, "rb") as stdin:
        run = start(sys.executable, *words, stdin=stdin)
        assert run.wait() == 0
    assert run.out == "ran\n"
    assert len(run.said) == 1
    assert sentence in run.said[0]


def test_a_program_that_is_not_python(start):
    run = start("echo", "ran")
    assert run.wait() == 0
    assert run.out == "ran\n"
    assert len(run.said) == 1
    assert "echo is not Python" in run.said[0]
    quiet = start("echo", "ran", flags=["-q"])
    assert quiet.wait() == 0
    assert quiet.err == ""


def test_an_interpreter_without_the_agent(start, tmp_path):
    made = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    run = start(made / "bin" / "python", script(tmp_path, "print('ran')"))
    assert run.wait() == 0
    assert run.out == "ran\n"
    assert f"in {made} has no ckptd agent" in run.said[0]


def test_a_script_by_its_first_line_is_reached(start, tmp_path):
    path = script(tmp_path, f"#!{sys.executable}\nimport os\nprint(os.environ['CKPTD_JOB'])\n", "train")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    run = start(path)
    assert run.wait() == 0
    assert run.said == []
    assert len(run.out.strip()) == 8


@pytest.mark.parametrize(
    ("word", "status"),
    [("no-such-command", 127), ("/no/such/python", 127), ("./plain.txt", 126), ("./odd", 126)],
)
def test_command_that_cannot_be_run(start, tmp_path, word, status):
    (tmp_path / "plain.txt").write_text("not executable")
    (tmp_path / "odd").write_bytes(b"\x7fELF, or so it says")
    (tmp_path / "odd").chmod(0o755)
    run = start(word)
    assert run.wait() == status
    assert len(run.err.splitlines()) == 1
    assert word in run.said[0]


def test_unknown_flag(start):
    run = start("true", flags=["--no-such-flag"])
    assert run.wait() == 2
    assert run.said == ["ckptd: No such option '--no-such-flag': see ckptd run --help"]
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--every", "soon"], "'soon'"), (["--grace", "-1"], "'-1'"), (["--grace", "0"], "--grace 0"),
        (["--notice-signals", "KILL"], "'KILL'"), (["--notice-signals", ""], "empty"),
        (["--name", "a/b"], "'a/b'"), (["--keep-last", "0"], "--keep-last"), (["-q", "-v"], "contradict"),
        (["--max-restarts", "x"], "--max-restarts"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense(start, flags, word):
    run = start("true", flags=flags)
    assert run.wait() == 2
    assert len(run.err.splitlines()) == 1
    assert word in run.said[0]


def test_a_store_that_is_a_file(start, tmp_path):
    (tmp_path / "store").write_text("mine")
    run = start("echo", "ran")
    assert run.wait() == 10
    assert run.out == ""
    assert len(run.err.splitlines()) == 1
    assert str(tmp_path / "store") in run.said[0]


def test_a_store_that_cannot_be_written(start, tmp_path):
    run = start("echo", "ran", flags=["--store", "/proc/store"])
    assert run.wait() == 10
    assert run.out == ""
    assert len(run.err.splitlines()) == 1
    assert "/proc/store" in run.said[0]


def test_flags_by_environment(start, tmp_path):
    run = start(
        sys.executable, script(tmp_path, "print(1)"), env={"CKPTD_VERBOSE": "1", "CKPTD_NAME": "digits"}
    )
    assert run.wait() == 0
    assert any("attempt 1 of job" in line for line in run.said)
    again = start(sys.executable, script(tmp_path, "print(1)"), env={"CKPTD_NAME": "digits"})
    assert again.wait() == 14
    assert again.said == [
        "ckptd: job 'digits' has finished: start it over with --fresh, or choose another --name"
    ]


def test_daemonised_child_of_a_finished_program_is_left_alone(start, tmp_path):
    text = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    run = start(sys.executable, script(tmp_path, text))
    assert run.wait() == 0
    child = psutil.Process(int(run.out))
    assert child.status() != psutil.STATUS_ZOMBIE
    child.kill()


def test_no_torch_and_a_quick_start():
    code = (
        "import sys; from ckptd.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "bad = {'torch', 'zmq', 'psutil', 'rich', 'msgpack'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_and_version():
    for word in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-m", "ckptd", word], capture_output=True, text=True, check=True
        )
        assert "ckptd" in done.stdout
        assert done.stderr == ""
