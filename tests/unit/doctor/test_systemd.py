"""What is read of units and of logind. The programs here print what systemd 252 does."""

import math
import time

import psutil
import pytest

from ckptd.doctor.findings import NOTES, WARNS
from ckptd.doctor.notice import LOGIND, STOP
from ckptd.doctor.systemd import (
    find_unit,
    logind_notice,
    own_unit,
    seconds_of,
    unit_findings,
    unit_notice,
)  # fmt: skip
from ckptd.errors import UsageError


def unit_of(machine, wanted=""):
    found = find_unit(machine, wanted)
    assert found is not None
    return found


SHOW = """\
case "$*" in
*train.service*) cat <<END
Type={kind}
ExecStart={{ path=/usr/bin/env ; argv[]=/usr/bin/env -C /x {command} ; ignore_errors=no }}
Restart={restart}
RestartForceExitStatus={force}
TimeoutStopUSec={stop}
KillMode={mode}
SendSIGKILL={kill}
LoadState=loaded
END
;;
*) echo LoadState=not-found ;;
esac
"""
CGROUP = {"/proc/self/cgroup": "0::/system.slice/train.service\n"}


def show(
    stop="1min 30s", mode="mixed", restart="no", force="75", kill="yes", kind="simple", command="python x.py"
):
    said = SHOW.format(
        stop=stop, mode=mode, restart=restart, force=force, kill=kill, kind=kind, command=command
    )
    return {"systemctl": said}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s", 90), ("7s", 7), ("500ms", 0.5), ("2h 5min 1s", 7501), ("1d", 86400), ("1w 1us", 604800.000001),
        ("1month", 2629800), ("infinity", math.inf), ("10", 10), ("", None), ("[not set]", None), ("5 apples", None),
    ],
)  # fmt: skip
def test_times_as_systemd_writes_them(text, seconds):
    assert seconds_of(text) == (pytest.approx(seconds) if seconds else seconds)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/train.service\n", ("train.service", False)),
        ("0::/system.slice/train.service/payload\n", ("train.service", False)),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/ckptd.service\n", ("ckptd.service", True)),
        ("0::/system.slice/run-u12.scope\n", ("run-u12.scope", False)),
        ("4:memory:/x\n1:name=systemd:/system.slice/train.service\n0::/\n", ("train.service", False)),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ("", False)),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n", ("", False)),
        ("0::/user.slice/user-1000.slice/user@1000.service\n", ("", False)),
        ("0::/system.slice/docker-0123.scope\n", ("", False)),
        ("0::/init.scope\n", ("", False)),
        ("0::/\n", ("", False)),
        ("", ("", False)),
    ],
)  # fmt: skip
def test_the_unit_that_we_are_in(machine, text, unit):
    assert own_unit(machine({"/proc/self/cgroup": text})) == unit


def test_a_short_stop_and_the_line_that_mends_it(machine):
    unit = unit_of(machine(CGROUP, show(stop="10s")))
    (notice,) = unit_notice(unit)
    assert (notice.name, notice.seconds, notice.here) == (STOP, 10, True)
    assert notice.mend.format(need=40) == "systemctl edit train.service: [Service] TimeoutStopSec=40"
    assert unit_findings(unit) == []


@pytest.mark.parametrize(
    ("kind", "command", "extended"),
    [
        ("notify", "/x/bin/ckptd run --name a -- python x.py", True),
        ("notify-reload", "/x/bin/python -m ckptd run -- python x.py", True),
        ("simple", "/x/bin/ckptd run -- python x.py", False),
        ("notify", "/x/bin/other -- python x.py", False),
    ],
)
def test_a_stop_that_ckptd_makes_longer_itself(machine, kind, command, extended):
    (notice,) = unit_notice(unit_of(machine(CGROUP, show(stop="10s", kind=kind, command=command))))
    assert notice.seconds == (math.inf if extended else 10)
    assert ("longer" in notice.fact) == extended


@pytest.mark.parametrize(("stop", "kill"), [("infinity", "yes"), ("10s", "no")])
def test_a_stop_without_end(machine, stop, kill):
    (notice,) = unit_notice(unit_of(machine(CGROUP, show(stop=stop, kill=kill))))
    assert notice.seconds == math.inf


@pytest.mark.parametrize(
    ("mode", "severity"), [("control-group", WARNS), ("process", WARNS), ("none", WARNS)]
)
def test_kill_modes(machine, mode, severity):
    (found,) = unit_findings(unit_of(machine(CGROUP, show(mode=mode))))
    assert (found.what, found.severity) == ("KillMode", severity)
    assert found.mend == "systemctl edit train.service: [Service] KillMode=mixed"


@pytest.mark.parametrize(
    ("restart", "force", "count"),
    [("no", "", 1), ("no", "1 75", 0), ("on-failure", "", 0), ("no", "175", 1)],
)
def test_who_starts_it_again(machine, restart, force, count):
    found = unit_findings(unit_of(machine(CGROUP, show(restart=restart, force=force))))
    assert [each.severity for each in found] == [NOTES] * count


def test_a_unit_of_the_users_own_manager_is_asked_there(machine):
    cgroup = "0::/user.slice/user-1.slice/user@1.service/app.slice/train.service\n"
    programs = {"systemctl": f'[ "$1" = --user ] || exit 1\n{show(stop="5s")["systemctl"]}'}
    unit = unit_of(machine({"/proc/self/cgroup": cgroup}, programs))
    assert unit_notice(unit)[0].seconds == 5
    assert unit.mend("X=1") == "systemctl --user edit train.service: [Service] X=1"


def test_a_scope_gives_way_to_a_service(machine):
    said = SHOW.replace("train.service", "run-1.scope").format(
        stop="3s", mode="control-group", restart="", force="", kill="yes", kind="", command=""
    )
    unit = unit_of(machine({"/proc/self/cgroup": "0::/system.slice/run-1.scope\n"}, {"systemctl": said}))
    assert [each.mend for each in unit_findings(unit)] == [
        "systemd-run --pipe --property=KillMode=mixed ckptd run -- CMD"
    ]
    assert (
        unit_notice(unit)[0].mend.format(need=9).startswith("systemd-run --pipe --property=TimeoutStopSec=9 ")
    )


def test_a_named_unit_that_is_not_there_is_refused(machine):
    with pytest.raises(UsageError, match="other"):
        unit_of(machine({}, show()), "other")


def test_a_named_unit_is_found_without_its_ending(machine):
    assert unit_of(machine({}, show()), "train").name == "train.service"


def test_a_unit_of_which_nobody_tells(machine):
    unit = unit_of(machine(CGROUP, {"systemctl": "exit 1"}))
    assert unit_notice(unit) == []
    assert [each.severity for each in unit_findings(unit)] == [WARNS]


# ---- logind -------------------------------------------------------------------------------------

BOOTED = {"/run/systemd/system/x": ""}


def test_logind_says_how_long_it_waits(machine):
    (notice,) = logind_notice(machine(BOOTED, {"busctl": "echo t 15000000"}))
    assert (notice.name, notice.seconds) == (LOGIND, 15)


@pytest.mark.parametrize(
    ("files", "seconds"),
    [
        ({}, 5),
        ({"/etc/systemd/logind.conf": "[Login]\n#InhibitDelayMaxSec=5\nInhibitDelayMaxSec=1min\n"}, 60),
        (
            {
                "/etc/systemd/logind.conf": "InhibitDelayMaxSec=60\n",
                "/usr/lib/systemd/logind.conf.d/90-x.conf": "InhibitDelayMaxSec=7\n",
                "/etc/systemd/logind.conf.d/10-y.conf": "InhibitDelayMaxSec = 9\n",
            },
            7,
        ),
        (
            {
                "/usr/lib/systemd/logind.conf.d/90-x.conf": "InhibitDelayMaxSec=7\n",
                "/etc/systemd/logind.conf.d/90-x.conf": "InhibitDelayMaxSec=8\n",
            },
            8,
        ),
        ({"/etc/systemd/logind.conf": "InhibitDelayMaxSec=soon\n"}, 5),
    ],
)
def test_else_its_files_do(machine, files, seconds):
    (notice,) = logind_notice(machine({**BOOTED, **files}, {"busctl": "exit 1"}))
    assert notice.seconds == seconds


def test_without_systemd_there_is_no_logind(machine):
    assert logind_notice(machine({}, {"busctl": "echo t 1"})) == []


def test_a_program_that_hangs_is_given_up_with_all_that_it_started(machine, monkeypatch, tmp_path):
    monkeypatch.setattr("ckptd.doctor.machine.ANSWER_SECONDS", 0.3)
    there = machine(BOOTED, {"busctl": f"sleep 60 & echo $! > {tmp_path}/pid; wait"})
    assert logind_notice(there)[0].seconds == 5
    pid, end = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while runs(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # it is not ours to be reaped
    except psutil.NoSuchProcess:
        return False
