import os
import socket
import subprocess
import sys
import time

import msgpack
import pytest
import zmq

from ckptd import control, protocol
from ckptd.daemon.crowd import MOST
from ckptd.daemon.loop import Loop
from ckptd.daemon.places import Place
from ckptd.daemon.server import Server
from ckptd.errors import ProtocolError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = Place("key")
    yield place
    place.close()


@pytest.fixture
def server(place):
    server = Server(place)
    yield server
    server.close()


@pytest.fixture
def peer(place, server):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(place.endpoint)
    yield socket
    context.destroy(linger=0)


def receive(server):
    """The next message; nonsense may come alone, and before it."""
    while server.socket.poll(5000):
        received = server.receive()
        if received is not None:
            return received
    raise AssertionError("no message came")


def test_there_and_back(server, peer):
    peer.send(protocol.pack(protocol.Notice(15)))
    address, message = receive(server)
    assert message == protocol.Notice(15)
    assert server.send(address, protocol.Welcome(5))
    assert peer.poll(5000)
    assert protocol.unpack(peer.recv()) == protocol.Welcome(5)


def test_nonsense_is_counted(server, peer):
    for frames in (
        [b""],
        [b"\xff" * 100],
        [b"a", b"b"],
        [b"\x93\x01\xa4none\x80"],
        [protocol.pack(protocol.Due(1))],
    ):
        peer.send_multipart(frames)
    assert receive(server)[1] == protocol.Due(1)
    assert server.nonsense == 4


def test_a_peer_that_is_gone(server):
    assert not server.send(b"nobody", protocol.Welcome())
    assert server.undelivered == 1


def test_a_peer_that_does_not_read_blocks_nothing(server, peer):
    peer.setsockopt(zmq.RCVHWM, 1)
    peer.send(protocol.pack(protocol.Due(1)))
    address, _ = receive(server)
    refused = sum(not server.send(address, protocol.Unsaved("1-a", "x" * 1000)) for _ in range(20000))
    assert refused > 0
    assert server.undelivered == refused


def test_the_socket_is_private(place, server):
    assert place.socket.stat().st_mode & 0o077 == 0
    assert place.socket.parent.stat().st_mode & 0o077 == 0


def test_a_hello_is_from_the_process_that_it_names(server, peer):
    for pid in (os.getpid() + 1, 1, -1, 0):
        peer.send(protocol.pack(protocol.Hello(pid, 0, 1, [], "")))
    peer.send(protocol.pack(protocol.Hello(os.getpid(), 0, 1, [], "")))
    assert receive(server)[1].pid == os.getpid()
    assert server.nonsense == 4


def test_an_answer_that_can_not_be_told_is_no_end(server, peer):
    peer.send(protocol.pack(control.Look("x" * 64)))
    address, message = receive(server)
    for facts in ({"text": "x" * protocol.MAX_BYTES}, {"number": 2**70}, {"set": {1}}):
        assert not server.send(address, control.Reply(message.ask, 0, "", facts))
    assert server.send(address, control.Reply(message.ask, 0, "", {"path": "\udcff"}))
    assert peer.poll(5000)
    assert vars(protocol.unpack(peer.recv()))["facts"] == {"path": "?"}
    peer.send(protocol.pack(control.Look("x" * 65)))
    peer.send(protocol.pack(protocol.Due(1)))
    assert receive(server)[1] == protocol.Due(1)


def test_more_connections_than_can_be_held_are_all_ended(place, server, peer):
    """ZeroMQ aborts a process that has no descriptor left to accept one more."""
    loop, heard = Loop(), []

    def hear():
        while (received := server.receive()) is not None:
            heard.append(received)
            server.send(received[0], protocol.Welcome())

    server.serve(loop, hear)
    files = len(os.listdir("/proc/self/fd"))
    held = []
    try:
        for _ in range(MOST + 1):
            made = socket.socket(socket.AF_UNIX)
            made.connect(str(place.socket))
            held.append(made)
            loop.after("look", 0.001, lambda: None)
            loop.turn()
        until = time.monotonic() + 20
        while not server.renewed and time.monotonic() < until:
            loop.after("look", 0.01, lambda: None)
            loop.turn()
        assert server.renewed == 1
        assert [each.recv(1) for each in held[:3]] == [b"\xff"] * 3  # ZeroMQ's greeting, and then the end
        while not heard and time.monotonic() < until:
            peer.send(protocol.pack(protocol.Due(1)))  # it has connected again by itself
            loop.after("look", 0.05, lambda: None)
            loop.turn()
        assert heard[0][1] == protocol.Due(1)
        assert peer.poll(5000)
    finally:
        for each in held:
            each.close()
    while len(os.listdir("/proc/self/fd")) > files + 8 and time.monotonic() < until:
        loop.after("look", 0.05, lambda: None)
        loop.turn()
    assert len(os.listdir("/proc/self/fd")) <= files + 8


def test_what_ckptd_starts_has_the_limit_that_ckptd_was_given(tmp_path):
    program = (
        "import os, resource, sys; from ckptd.daemon.openfiles import as_given, raise_limit\n"
        "from ckptd.daemon.processes import spawn\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000)); raise_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)\n"
        "pid = spawn('/bin/sh', ['sh', '-c', 'ulimit -n; ulimit -Hn'], os.environ, [])\n"
        "os.waitpid(pid, 0); print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(2000, 2000)", "300", "2000", "(2000, 2000)"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("mind", {"ask": "x", "seconds": float("nan")}),
        ("mind", {"ask": "x", "seconds": float("inf")}),
        ("halt", {"ask": "x", "grace": float("nan")}),
        ("due", {"step": 2**53 + 1}),
        ("due", {"step": -(2**63)}),
        ("reply", {"ask": "x", "status": 0, "text": "", "facts": {"many": [[]] * 10_001}}),
    ],
)
def test_what_is_no_number_or_a_bomb_is_no_message(kind, fields):
    with pytest.raises(ProtocolError):
        protocol.unpack(msgpack.packb([1, kind, fields]))


def test_a_text_that_is_too_long_for_a_supervisor_is_cut():
    data = protocol.pack_inward(protocol.Undumped("1-a", "x" * 100_000))
    assert len(data) < protocol.MAX_INWARD
    assert vars(protocol.unpack(data))["why"].startswith("xxxx")
    hello = protocol.unpack(
        protocol.pack_inward(protocol.Hello(1, 0, 1, ["x" * 5000] * 5000, "python", "/a/b"))
    )
    assert (vars(hello)["pid"], vars(hello)["resume"]) == (1, "/a/b")
