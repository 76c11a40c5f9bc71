"""Which sources --notices means; and that no address is asked unless this is that cloud, or the user says so."""

from __future__ import annotations

import socket
import time

import pytest

from ckptd.errors import UsageError
from ckptd.notices import choose as choosing
from ckptd.notices import logind
from ckptd.notices.choose import choose
from ckptd.notices.machine import Files
from ckptd.notices.watch import Watch

DMI = {
    "aws": {"sys_vendor": "Amazon EC2\n"},
    "gcp": {"product_name": "Google Compute Engine\n"},
    "azure": {
        "sys_vendor": "Microsoft Corporation\n",
        "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n",
    },
    "alibaba": {"sys_vendor": "Alibaba Cloud\n"},
    "": {"sys_vendor": "Dell Inc.\n", "product_name": "PowerEdge\n"},
}


@pytest.fixture
def machine(tmp_path):
    def make(dmi, *paths):
        folder = tmp_path / "sys/class/dmi/id"
        folder.mkdir(parents=True)
        for name, text in DMI[dmi].items():
            (folder / name).write_text(text)
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return Files(tmp_path)

    return make


def names(sources):
    return list(dict.fromkeys(source.name for source in sources))


@pytest.mark.parametrize("dmi", sorted(DMI))
def test_auto_is_the_cloud_that_the_firmware_names(machine, dmi):
    assert names(choose("auto", {}, machine(dmi))) == ([dmi] if dmi else [])


def test_auto_listens_to_slurm_where_a_job_has_an_end(machine):
    here = machine("gcp")
    assert names(choose("auto", {"SLURM_JOB_END_TIME": "2000000000"}, here)) == ["gcp", "slurm"]
    assert names(choose("auto", {"SLURM_JOB_END_TIME": "UNLIMITED"}, here)) == ["gcp"]


def test_auto_listens_to_logind_where_it_can(machine, monkeypatch):
    here = machine("", "run/dbus/system_bus_socket", "run/systemd/seats")
    for module in (logind, choosing):
        monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert names(choose("auto", {}, here)) == ["logind"]
    for module in (logind, choosing):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert choose("auto", {}, here) == []
    with pytest.raises(UsageError, match=r"pip install 'ckptd\[logind\]'"):
        choose("logind", {}, here)


def test_auto_without_a_bus_or_without_logind(machine, monkeypatch):
    for module in (logind, choosing):
        monkeypatch.setattr(module, "find_spec", lambda name: object())
    here = machine("", "run/systemd/seats")
    assert choose("auto", {}, here) == []
    assert names(choose("auto", {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"}, here)) == ["logind"]
    here.path("/run/systemd/seats").unlink()
    assert choose("auto", {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"}, here) == []


def test_amazons_own_switch_is_obeyed_unless_the_user_names_it(machine):
    here = machine("aws")
    assert choose("auto", {"AWS_EC2_METADATA_DISABLED": "true"}, here) == []
    assert names(choose("aws", {"AWS_EC2_METADATA_DISABLED": "true"}, here)) == ["aws"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("none", []),
        ("aws", ["aws"]),
        ("gcp, azure ,alibaba", ["gcp", "azure", "alibaba"]),
        ("auto,file:/x", ["gcp", "file"]),
        ("gcp,auto,gcp", ["gcp"]),
        ("file:/x,file:/y,file:/x", ["file"]),
    ],
)
def test_names(machine, words, found):
    assert names(choose(words, {}, machine("gcp"))) == found


def test_two_files_are_two_sources(machine):
    assert len(choose("file:/x,file:/y,file:/x", {}, machine(""))) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "is empty"),
        (" , ", "is empty"),
        ("ec2", "no such source; there are auto, none, aws, gcp, azure, alibaba, slurm, logind, file:PATH"),
        ("none,aws", "none goes with nothing else"),
        ("aws:2s", "nothing goes behind aws"),
        ("file", "which one"),
        ("slurm", "SLURM_JOB_END_TIME is not set"),
        ("slurm:soon", "not a duration"),
    ],
)
def test_what_can_not_be_meant_is_refused(machine, words, says):
    with pytest.raises(UsageError, match=says):
        choose(words, {}, machine(""))


def test_an_address_that_is_none_is_refused_by_its_variable(machine):
    with pytest.raises(UsageError, match="AWS_EC2_METADATA_SERVICE_ENDPOINT=https://x"):
        choose("aws", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "https://x"}, machine(""))


@pytest.mark.parametrize("dmi", sorted(DMI))
def test_no_packet_goes_to_a_cloud_that_this_is_not(machine, clouds, monkeypatch, dmi):
    """Every address is a fake's that counts; the clouds' own can't be reached at all from this test."""
    whole, elsewhere = socket.socket.connect, []

    def connect(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
            elsewhere.append(address)
            raise OSError("not from a test")
        return whole(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    fakes = {name: each.fake() for name, each in clouds.items()}
    try:
        env: dict[str, str] = {}
        for name, fake in fakes.items():
            fake.__enter__()
            env |= clouds[name].env(fake)
        watch = Watch(choose("auto", env, machine(dmi)))
        until = time.monotonic() + 5
        while dmi and not fakes[dmi].asked and time.monotonic() < until:
            time.sleep(0.01)
        watch.close()
        assert [name for name, fake in fakes.items() if fake.asked] == ([dmi] if dmi else [])
        assert elsewhere == []
    finally:
        for fake in fakes.values():
            fake.__exit__()
