"""The machine around a job: reboots, power cuts, a user's own systemd, and scopes."""

from __future__ import annotations

import json
import sys

import pytest

from systemd.box import ROOT
from systemd.conftest import CKPTD, FAKE, STUB, counted

ADA = "12345"
HOME = "/var/lib/ada"


def test_a_reboot_in_mid_training_and_then_a_power_cut(fake, box):
    job = fake(400, {"CKPTD_EVERY": "500ms"}, pace=0.01)
    job.systemctl("enable", "--now")
    job.has_printed(30)
    box.power_off()
    assert job.ends() == ["75 success"]
    printed = len(job.out())
    assert job.out() == counted(printed)
    box.boot()
    job.has_printed(printed + 30)
    assert job.out()[: printed + 30] == counted(printed + 30)
    job.until(lambda: "saved step" in job.property["StatusText"], "a checkpoint by itself")
    box.cut()
    lost = job.out()
    box.boot()
    job.is_over()
    again = job.out()[len(lost) :]
    assert again == counted(400)[int(again[0]) - 1 :]  # from the last checkpoint on
    assert 1 < int(again[0]) <= int(lost[-1]) + 1
    assert job.ends() == ["75 success", "0 success"]


@pytest.fixture
def ada(box):
    """Somebody with a systemd of her own: a function that runs a command as her."""
    passwd = box.inside("/etc/passwd").read_text()
    if "ada:" not in passwd:
        box.write("/etc/passwd", passwd + f"ada:x:{ADA}:{ADA}:Ada:{HOME}:/bin/sh\n")
        box.write("/etc/group", box.inside("/etc/group").read_text() + f"ada:x:{ADA}:\n")
        box.write("/etc/shadow", box.inside("/etc/shadow").read_text() + "ada:*:20000:0:99999:7:::\n")
        box.run("install", "-d", "-o", ADA, "-g", ADA, HOME)

    def run(*words, **more):
        her = ["setpriv", f"--reuid={ADA}", f"--regid={ADA}", "--clear-groups"]
        env = {"HOME": HOME, "XDG_RUNTIME_DIR": f"/run/user/{ADA}"}
        return box.run(*her, "--", *words, env=env, **more)

    if (
        run(sys.executable, "-c", "import ckptd", check=False).returncode
        or run("cat", FAKE, check=False).returncode
    ):
        pytest.skip(f"others than root can't read {ROOT}")
    box.run("loginctl", "enable-linger", "ada")
    box.until(lambda: box.state(f"user@{ADA}.service") == "active", "her systemd")
    yield run
    box.run("systemctl", "stop", f"user@{ADA}.service")
    box.run("loginctl", "disable-linger", "ada")


def test_a_job_of_a_user_in_the_systems_unit(fake, ada, box):
    job = fake(200, {"DIRECTORY": HOME}, pace=0.01)
    job.dropin("[Service]\nUser=ada\n")
    job.systemctl("start")
    job.has_printed(20)
    job.systemctl("stop")
    job.systemctl("start")
    job.is_over()
    assert job.out() == counted(200)
    assert job.ends() == ["75 success", "0 success"]
    store = box.folder / "lib" / f"ckptd-{job.name}"
    assert {path.stat().st_uid for path in store.rglob("*")} == {int(ADA)}


def test_a_users_own_units(ada, box):
    said = ada(CKPTD, "daemon", "install", "--user", "--no-start").stdout
    assert f"wrote {HOME}/.config/systemd/user/ckptd@.service" in said
    assert "enable-linger" not in said
    for unit in ("ckptd.service", "ckptd@train.service"):
        done = ada("systemd-analyze", "--user", "verify", unit)
        assert (done.stdout, done.stderr) == ("", "")
    config = f"{HOME}/.config"
    box.write(
        f"{config}/ckptd/train.env",
        f'DIRECTORY={HOME}\nCOMMAND="{sys.executable} {FAKE} 200 pace=0.01"\nCKPTD_AGENT_PATH={STUB}\n',
    )
    box.write(
        f"{config}/systemd/user/ckptd@.service.d/out.conf",
        f"[Service]\nStandardOutput=append:{HOME}/out\nStandardError=null\n",
    )
    out = box.folder / "lib" / "ada" / "out"
    ada("systemctl", "--user", "daemon-reload")
    ada("systemctl", "--user", "start", "ckptd@train")
    box.until(lambda: out.read_text().count("\n") >= 20, "20 lines")
    ada("systemctl", "--user", "stop", "ckptd@train")
    assert ada("systemctl", "--user", "is-active", "ckptd@train", check=False).stdout.strip() == "inactive"
    ada("systemctl", "--user", "start", "ckptd@train")
    box.until(lambda: out.read_text().split() == counted(200), "the end, bit for bit")


def test_a_users_own_daemon(ada, box):
    said = ada(CKPTD, "daemon", "install", "--user").stdout
    assert "ckptd.service is started" in said
    store = f"{HOME}/.local/state/ckptd"
    box.until(lambda: box.inside(f"{store}/daemon.json").exists(), "her daemon")
    job = (sys.executable, FAKE, "100000", "pace=0.01")
    # From where her runtime folder isn't known, as from cron: the daemon's does for its socket and its scope.
    began = ada(
        "env",
        "-u",
        "XDG_RUNTIME_DIR",
        "-C",
        HOME,
        f"CKPTD_AGENT_PATH={STUB}",
        CKPTD,
        "run",
        "-d",
        "--notices=none",
        "--",
        *job,
    )
    name = began.stdout.split()[0]
    (scope,) = ada(
        "systemctl", "--user", "list-units", "--plain", "--no-legend", "ckptd-job-*"
    ).stdout.splitlines()
    assert scope.startswith(f"ckptd-job-{name}-")
    ada("systemctl", "--user", "kill", "--signal=KILL", "ckptd.service")
    box.until(
        lambda: ada("systemctl", "--user", "is-active", "ckptd", check=False).stdout == "active\n", "the next"
    )
    assert scope.split()[0] in ada("systemctl", "--user", "list-units", "--plain", "--no-legend").stdout
    said = ada(CKPTD, "daemon", "uninstall", "--user").stdout
    assert "ckptd.service is stopped" in said
    (row,) = [row for row in json.loads(ada(CKPTD, "ps", "--json").stdout) if row["id"] == name]
    assert row["state"] == "stopped"
    assert row["checkpoint"]


SHOW = "import os; print(open('/proc/self/cgroup').read(), os.getpid(), os.getcwd())"
IN_SCOPE = f"""\
import os, subprocess, sys
from ckptd.daemon.scope import wrap
command = wrap([sys.executable, '-c', {SHOW!r}, '$HOME %h'], 'a job/1', user=bool(int(sys.argv[1])))
print(command[:1])
started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd='/usr')
said = started.communicate()[0]
assert started.returncode == 0
words = said.split()
assert words[-2:] == [str(started.pid), '/usr'], said
unified = next(word for word in words if word.startswith('0::'))
print(unified)
again = subprocess.run(wrap(['sh', '-c', 'exit 75'], 'a job/1', user=bool(int(sys.argv[1]))))
assert again.returncode == 75
"""


def test_a_job_gets_a_scope_of_its_own(ada, box):
    for user, manager, where in ((0, box.run, "/ckptd.slice/"), (1, ada, f"/user@{ADA}.service/app.slice/")):
        flag = ["--user"] if user else []
        done = manager(
            "systemd-run",
            *flag,
            "--wait",
            "--pipe",
            "--quiet",
            "--collect",
            sys.executable,
            "-c",
            IN_SCOPE,
            str(user),
        )
        assert "systemd-run" in done.stdout
        scope = done.stdout.split("0::")[1].strip()
        assert where in scope
        name = scope.rpartition("/")[2]
        assert name.startswith("ckptd-job-a_job_1-")
        assert name.endswith(".scope")


def test_where_there_is_no_manager_a_job_is_started_as_it_is(box):
    # Outside of any unit, as on a machine without systemd: nsenter puts nobody into one.
    code = "from ckptd.daemon.scope import wrap; print(wrap(['a', '$b'], 'x', user=False))"
    assert box.run(sys.executable, "-c", code).stdout.strip() == "['a', '$b']"


def test_what_somebody_else_has_written_is_left_alone(box):
    path = "/etc/systemd/system/ckptd.service"
    ours = box.inside(path).read_text()
    install = (CKPTD, "daemon", "install", "--no-start")
    assert f"{path} is as it should be" in box.run(*install).stdout
    box.write(path, "[Service]\nExecStart=/bin/true\n")
    try:
        done = box.run(*install, check=False)
        assert "is not of ckptd daemon install" in done.stderr
        assert box.inside(path).read_text() == "[Service]\nExecStart=/bin/true\n"
    finally:
        box.write(path, ours)
