"""The units of systemd as they are written, and when a job gets a scope; tests/systemd shows both at work."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ckptd.cli import install
from ckptd.daemon import scope
from ckptd.errors import CkptdError, UsageError
from ckptd.units import NAMES, filled, units_folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("user", [False, True])
def test_a_unit_runs_this_installation(name, user, tmp_path):
    text = filled(name, user=user, python="/opt/env/bin/python3")
    assert "/usr/local/bin/ckptd" not in text
    assert " -m ckptd " in text  # no script is there
    assert 'Environment="PATH=/opt/env/bin:/usr/local/bin:/usr/bin:/bin"' in text
    (tmp_path / "ckptd").touch(mode=0o755)
    (line,) = [
        line
        for line in filled(name, user=user, python=str(tmp_path / "python")).splitlines()
        if line.startswith("ExecStart=")
    ]
    assert f"{tmp_path}/ckptd " in line


def test_a_strange_path_is_still_one_word_to_systemd():
    text = filled("ckptd.service", user=False, python='/o p"t/100%/$x/python')
    assert 'ExecStart="/o p\\"t/100%%/$$x/python" -m ckptd daemon' in text
    assert 'Environment="PATH=/o p\\"t/100%%/$x:' in text


def test_units_that_are_missing_are_named(tmp_path):
    with pytest.raises(CkptdError, match="units are missing"):
        units_folder(tmp_path / "ckptd")


@pytest.mark.parametrize(
    ("cgroup", "under"),
    [
        ("0::/system.slice/ckptd.service\n", True),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/ckptd.service\n", True),
        ("0::/system.slice/ckptd.service/below\n", True),
        ("9:cpu:/x.service\n1:name=systemd:/user.slice/session-2.scope\n0::/\n", True),
        ("9:cpu:/x.service\n1:name=systemd:/\n0::/\n", False),
        ("0::/\n", False),
        ("0::/kubepods/pod1/abc\n", False),
    ],
)
def test_who_runs_below_systemd(cgroup, under, tmp_path):
    (tmp_path / "cgroup").write_text(cgroup)
    assert scope.under_systemd(tmp_path / "cgroup", tmp_path) is under
    assert scope.under_systemd(tmp_path / "cgroup", tmp_path / "not-booted") is False


def test_without_systemd_nothing_is_wrapped_or_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "_BOOTED", tmp_path / "none")
    monkeypatch.setattr(scope, "_BOOTED", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scope.wrap(["a", "b"], "job", user=True) == ["a", "b"]
    done = CliRunner().invoke(install.install, ["--user"])
    assert isinstance(done.exception, UsageError)
    assert "systemd doesn't run this machine" in str(done.exception)


def test_an_argument_with_a_dollar_reaches_the_job_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(scope, "under_systemd", lambda: True)
    monkeypatch.setattr(scope, "_reachable", lambda user: True)
    program = tmp_path / "systemd-run"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for version, flagged in ((252, False), (254, True), (257, True)):
        program.write_text(f"#!/bin/sh\necho 'systemd {version} ({version}.1)'\n")
        program.chmod(0o755)
        command = scope.wrap(["echo", "$HOME"], "j", user=True)
        assert ("--expand-environment=no" in command) is flagged
        assert command[-3:] == ["--", "echo", "$HOME"]
        assert "--expand-environment=no" not in scope.wrap(["echo", "x"], "j", user=True)
