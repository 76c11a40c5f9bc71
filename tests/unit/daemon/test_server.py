import pytest
import zmq

from ckptd import protocol
from ckptd.daemon.places import Place
from ckptd.daemon.server import Server


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
    assert server.socket.poll(5000)
    return server.receive()


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
