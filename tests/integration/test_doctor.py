"""``ckptd doctor`` as a person and as a program calls it, on this machine and in trees of files."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import pytest
from store_fixtures.making import make_checkpoint, make_segment

from ckptd.cli.main import main
from ckptd.doctor import far, rates
from ckptd.doctor.machine import Machine
from ckptd.doctor.report import Question, examine
from ckptd.errors import UsageError
from ckptd.store.layout import open_store

MB = 1 << 20
CLEAN = ("CKPTD_", "SLURM_", "KUBERNETES_", "TORCH_ELASTIC")


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """No job, pod or settings of whoever runs the tests; and quick measurements."""
    for name in os.environ:
        if name.startswith(CLEAN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(rates, "COPY_BYTES", 4 * MB)
    monkeypatch.setattr(rates, "FIRST_BYTES", 4 * MB)
    monkeypatch.setattr(rates, "ENOUGH_SECONDS", 0.01)
    monkeypatch.setattr(far, "ENOUGH_SECONDS", 0.02)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("raise SystemExit('it was run')\n")
    return str(path)


@pytest.fixture
def store(tmp_path):
    """Yet to be made."""
    return str(tmp_path / "store")


def as_json(capsys, *words):
    status = main(["doctor", "--json", *words])
    said = json.loads(capsys.readouterr().out)
    assert status == (0 if said["ok"] else 1)
    assert said["ok"] == (not [each for each in said["findings"] if each["severity"] == "loses work"])
    return status, said


def whats(said, severity="loses work"):
    return {each["what"] for each in said["findings"] if each["severity"] == severity}


def test_it_measures_and_leaves_nothing(capsys, tmp_path, script):
    far_away = tmp_path / "far"
    far_away.mkdir()
    before = sorted(os.listdir("/dev/shm"))
    _, said = as_json(
        capsys, "--store", str(tmp_path / "store"), "--remote", f"file://{far_away}", "--", sys.executable, script
    )  # fmt: skip
    found = said["rates"]
    assert all(
        found[name] > 0 for name in ("copy", "copy_again", "hash", "write", "read", "upload", "download")
    )
    assert said["size"] is None
    assert said["room"]["store"] == str(tmp_path / "store")
    assert said["program"]["reachable"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckptd", "far", "train.py"]
    assert list(far_away.iterdir()) == []
    mine = f"ckptd-{os.geteuid()}-"
    assert [n for n in os.listdir("/dev/shm") if n not in before and not n.startswith(mine)] == []


def test_the_size_is_that_of_the_jobs_newest_checkpoint(capsys, tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from ckptd.daemon.names import identify

    command = [sys.executable, script]
    job = identify(command, os.getcwd(), "").id
    folder = open_store(tmp_path / "store").job(job)
    folder.make()
    segment = make_segment(tmp_path / "a.seg", [("x", "F32", 40000)], facts={"step_seconds": 2.0})
    path = make_checkpoint(folder, segment, 9, job=job)
    _, said = as_json(capsys, "--store", "store", "--", *command)
    assert said["size"]["whence"] == f"checkpoint {path.name[13:]} at step 9"
    assert 40000 <= said["size"]["nbytes"] < 40100
    assert 2.0 < said["needs"]["memory"] < said["needs"]["disk"] < 60  # the step, the copy, the write
    words = {each["name"]: each for each in said["notices"]}
    assert words["AWS spot"]["disk"] == "fits"
    _, other = as_json(capsys, "--quick", "--store", "store", "--", *command, "--other")
    assert other["size"] is None


def test_a_state_that_is_too_large_for_everything(capsys, store):
    status, said = as_json(capsys, "--store", store, "--size", "900T")
    assert status == 1
    assert whats(said) == {"store's room"}
    assert {"memory", "/dev/shm"} <= {each["what"] for each in said["findings"]}
    assert {(each["memory"], each["disk"]) for each in said["notices"]} == {("no room", "no room")}
    assert said["needs"]["disk"] is None


def test_quick_measures_nothing(capsys, store):
    _, said = as_json(capsys, "--quick", "--store", store, "--size", "1M")
    assert said["rates"]["copy"] is None
    assert said["needs"] == {"memory": None, "disk": None, "remote": None}


def test_a_remote_that_does_not_answer_is_a_finding(capsys, tmp_path, store):
    (tmp_path / "file").write_text("")
    status, said = as_json(capsys, "--store", store, "--remote", f"file://{tmp_path}/file/x")
    assert status == 1
    assert "the remote" in whats(said)
    assert said["rates"]["write"] > 0


def test_a_command_that_shuts_the_agent_out(capsys, store, script):
    status, said = as_json(capsys, "--quick", "--store", store, "--", sys.executable, "-I", script)
    assert status == 1
    assert "command" in whats(said)


def test_a_folder_that_is_no_store_is_a_finding(capsys, tmp_path, script):
    status, said = as_json(capsys, "--quick", "--store", str(tmp_path), "--", sys.executable, script)
    assert status == 1
    assert "store" in whats(said)


def test_a_limit_of_the_shell_counts(store):
    words = f"ulimit -f 100; exec {sys.executable} -m ckptd doctor --quick --json --size 1G --store {store}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "ulimit -f" in whats(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "much"], "--size 'much' is no size"), (["--grace", "0"], "--grace 0"),
        (["--grace", "soon"], "no duration"), (["--remote", "nonsense"], "is no remote"),
        (["--unit", "no-such-unit-here"], "--unit no-such-unit-here"), (["--name", "a b"], "can't be a name"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(capsys, words, message):
    assert main(["doctor", *words]) == 2
    said = capsys.readouterr()
    assert message in said.err.replace("not a duration", "no duration")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_what_a_terminal_shows_fits_into_80_columns(tmp_path, store, script):
    lines = on_terminal(tmp_path, "--size", "900T", "--store", store, "--", sys.executable, script)
    assert any(line.startswith("NOTICE") for line in lines)
    assert any("loses work: store's room" in line for line in lines)
    assert any("may lose work: memory" in line for line in lines)
    mends = [line for line in lines if line.startswith("    ")]
    assert any("ckptd run --store" in line for line in mends)
    paths = [line for line in lines if str(tmp_path) in line or sys.executable in line]
    too_long = [line for line in lines if len(line) > 80 and line not in mends and line not in paths]
    assert too_long == []


QUICKLY = """\
import sys
from ckptd.cli.main import main
from ckptd.doctor import rates
rates.COPY_BYTES = rates.FIRST_BYTES = rates.LAST_BYTES = 4 << 20
sys.exit(main())
"""


def on_terminal(tmp_path: Path, *words: str) -> list[str]:
    """The lines that ``ckptd doctor`` shows on a terminal of 80 columns without colour."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", QUICKLY, "doctor", *words], stdout=theirs, stderr=subprocess.DEVNULL, cwd=tmp_path,
        env={**env, "NO_COLOR": "1", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:
        pass  # EIO: the other end is closed
    os.close(ours)
    assert process.wait(60) == 1
    assert b"\x1b" not in said
    return said.decode().replace("\r\n", "\n").splitlines()


def test_what_a_pipe_gets_is_not_broken(capsys, store):
    assert main(["doctor", "--quick", "--size", "900T", "--store", store]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "A state of 900 TB (--size) has no room here." in lines
    assert max(map(len, lines)) > 80


# ---- whole machines, as trees of files ----------------------------------------------------------

BARE = {
    "/proc/meminfo": "MemAvailable: 900000000 kB\n", "/proc/self/cgroup": "0::/\n",
    "/proc/self/mountinfo": "22 1 0:20 / / rw - ext4 /dev/vda rw\n", "/proc/1/comm": "systemd\n",
}  # fmt: skip


def machine(tmp_path: Path, files: dict[str, str] | None = None, **env: str) -> Machine:
    root = tmp_path / "root"
    for name, text in {**BARE, **(files or {})}.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "dev" / "shm").mkdir(parents=True)
    return Machine(root, {"PATH": os.defpath, **env})


def lost(report):
    return {each.what for each in report.loses}


@pytest.fixture
def asked(tmp_path):
    return Question(store=tmp_path / "store", nbytes=20 * MB)


def test_a_bare_machine_with_room_loses_nothing(tmp_path, asked):
    report = examine(asked, machine(tmp_path))
    assert report.findings == []
    assert {each.notice.name for each in report.verdicts if each.notice.here} == {"ckptd run --grace"}


def test_a_spot_instance_with_its_store_on_its_own_disk(tmp_path, asked):
    there = machine(tmp_path, {"/sys/class/dmi/id/sys_vendor": "Amazon EC2\n"})
    report = examine(asked, there)
    assert report.loses == []
    assert [each.what for each in report.findings] == ["store's disk"]
    assert {each.notice.name for each in report.verdicts if each.notice.here} == {
        "ckptd run --grace",
        "AWS spot",
    }


def test_a_pod_on_gke_whose_15_seconds_are_too_short(tmp_path, asked, monkeypatch):
    # A machine that is so slow that 20 MB take a while: the arithmetic is the same.
    monkeypatch.setattr(rates, "measure_disk", lambda *_: (MB, 0.0, MB))
    there = machine(
        tmp_path, {"/sys/class/dmi/id/product_name": "Google Compute Engine\n"}, KUBERNETES_SERVICE_HOST="10.0.0.1"
    )  # fmt: skip
    report = examine(asked, there)
    assert lost(report) == {"GKE spot pod"}
    assert "gives 15 s" in report.loses[0].text
    assert {"grace", "Kubernetes pod"} <= {each.what for each in report.findings}


def test_a_unit_with_all_that_can_be_wrong_with_it(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(rates, "measure_disk", lambda *_: (MB, 0.0, MB))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(
        "#!/bin/sh\nprintf 'LoadState=loaded\\nTimeoutStopUSec=2s\\nKillMode=control-group\\nRestart=no\\n"
        "RestartForceExitStatus=\\nSendSIGKILL=yes\\n'\n"
    )
    (programs / "systemctl").chmod(0o755)
    there = machine(tmp_path, {"/proc/self/cgroup": "0::/system.slice/train.service\n"})
    there = replace(there, env={"PATH": f"{programs}{os.pathsep}{os.defpath}"})
    report = examine(asked, there)
    assert lost(report) == {"systemd stop"}
    assert "KillMode" in {each.what for each in report.findings}
    mends = [each.mend for each in report.findings]
    assert any("TimeoutStopSec=" in line for line in mends)
    assert any("--grace 1s" in line for line in mends)


def test_a_name_that_is_wrong_is_refused_before_anything_is_measured(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(rates, "measure_disk", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(UsageError):
        examine(replace(asked, name="no name", nbytes=0), machine(tmp_path))
