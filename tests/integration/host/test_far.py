"""The daemon on TCP: off unless asked for, and then only for clients whose key it has."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import zmq
from fuzz_sockets import wire

from ckptd import control
from ckptd.client import Client, new_ask
from ckptd.errors import NoDaemonError, UsageError
from ckptd.host.far import reach_far, split_address
from harness.hosts import Host


def address_of(host: Host) -> str:
    """Where it listens for others."""
    found = re.search(r"served at (tcp://\S+)", host.log())
    assert found is not None, host.log()
    return found[1]


@pytest.fixture
def far(host: Host) -> tuple[Host, Path]:
    """A daemon that listens, and its keys."""
    folder = host.folder / "keys"
    host.ckptd("daemon", "keys", folder, "--client", "head")
    host.start("--listen", "tcp://127.0.0.1:0", "--keys", str(folder))
    return host, folder


def no_answer(client: Client) -> bool:
    """It is not served."""
    with client, pytest.raises(NoDaemonError):
        client.ask(control.Look(new_ask()), 1.0)
    return True


def test_without_keys_and_unasked_nothing_listens(host):
    done = host.ckptd("daemon", "--listen", "tcp://127.0.0.1:0", check=False)
    assert done.returncode == UsageError.status
    assert "ckptd daemon keys" in done.stderr
    done = host.ckptd("daemon", "--listen", "tcp://127.0.0.1:0", "--keys", host.folder / "none", check=False)
    assert done.returncode == UsageError.status
    host.start()
    listening = [
        line.split() for line in Path(f"/proc/{host.daemon.pid}/net/tcp").read_text().splitlines()[1:]
    ]
    inodes = {line[9] for line in listening if line[3] == "0A"}
    links = (path.readlink() for path in Path(f"/proc/{host.daemon.pid}/fd").iterdir())
    assert not [link for link in links if str(link)[8:-1] in inodes]


def test_only_those_whose_key_is_known_are_served(far, monkeypatch):
    host, folder = far
    address, keys = address_of(host), folder / "for-head"
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
    # A head node's question; the store is not there.
    env = {"CKPTD_STORE": "/none", "CKPTD_DAEMON": address, "CKPTD_KEYS": str(keys)}
    host.env.update(env)
    assert host.json("daemon", "status")["pid"] == host.daemon.pid
    host.env["CKPTD_STORE"] = str(host.store)
    with reach_far(address, keys) as client:
        for request in (control.Halt(new_ask()), control.Save(new_ask())):
            with pytest.raises(UsageError, match="from another machine"):
                client.ask(request)
        with pytest.raises(UsageError, match="its clock is another"):
            client.ask(control.Tell(new_ask(), "x", "advice", "1", 5.0, "text"))
        assert client.ask(control.Tell(new_ask(), "x", "advice", "1", None, "text")) == {}
        assert client.ask(control.Look(new_ask()))["standing"][0]["text"] == "text"
    # A plain client, one without a key of ours, and one whose key was taken away.
    assert no_answer(Client(address, "it"))
    stranger = (*zmq.curve_keypair(), (keys / "daemon.public").read_bytes().strip())
    assert no_answer(Client(address, "it", curve=stranger))
    (folder / "clients" / "head.public").unlink()
    assert no_answer(reach_far(address, keys))
    with pytest.raises(UsageError, match="asks for keys"):
        reach_far(address, None)


def test_garbage_from_the_network_changes_nothing(far, seeded):
    host, folder = far
    address = address_of(host)
    for number in range(60):
        with socket.create_connection(split_address(address), timeout=5) as raw:
            mechanism = seeded.choice((b"NULL", b"CURVE", b"PLAIN"))
            shapes = (
                seeded.randbytes(500), wire.greeting(mechanism), wire.greeting(mechanism)[:30], b"\xff" * 10_000,
                wire.greeting(b"CURVE") + wire.frame(b"\x05HELLO" + seeded.randbytes(194), wire.COMMAND),
                wire.greeting(mechanism) + wire.ready() + wire.frame(b"x" * 100) * 20,
            )  # fmt: skip
            raw.sendall(shapes[number % len(shapes)])
    with reach_far(address, folder / "for-head") as client:
        assert client.ask(control.Look(new_ask()))["pid"] == host.daemon.pid
    assert host.json("daemon", "status")["pid"] == host.daemon.pid


def test_keys_that_others_can_read_are_refused(host):
    folder = host.folder / "keys"
    host.ckptd("daemon", "keys", folder)
    (folder / "daemon.secret").chmod(0o644)
    done = host.ckptd("daemon", "--listen", "tcp://127.0.0.1:0", "--keys", folder, check=False)
    assert done.returncode == UsageError.status
    assert "can be read by others" in done.stderr
    assert host.ckptd("daemon", "keys", folder, check=False).returncode == UsageError.status
    for name in ("../x", ""):
        assert (
            host.ckptd("daemon", "keys", folder, "--client", name, check=False).returncode
            == UsageError.status
        )


@pytest.mark.parametrize(
    "address", ["127.0.0.1:5", "tcp://:5", "tcp://host", "tcp://host:99999", "udp://host:5"]
)
def test_an_address_is_checked(address):
    with pytest.raises(UsageError):
        split_address(address)
