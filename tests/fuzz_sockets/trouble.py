"""What ill-meaning peers do to a socket. As a process of its own, told on stdin what to do and for how long.

Each kind of trouble is a function; it gives up when its time is over, whatever it was about to do.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq

from ckptd import control, protocol
from fuzz_sockets import messages, wire

PEERS = 100
"""As many clients as the ones that never read."""


class Foe:
    """What all kinds of trouble need: where to, until when, and what was sent before."""

    def __init__(self, endpoint: str, agent: int) -> None:
        self.endpoint, self.path, self.agent = endpoint, endpoint.removeprefix("ipc://"), agent
        self.chance = random.Random(0)
        self.until = 0.0
        self.sent = 0
        self.history: list[bytes] = []

    def more(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until

    @contextmanager
    def dealers(self, count: int) -> Iterator[list[zmq.Socket[bytes]]]:
        """So many clients, that never read."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 2000)
        made = []
        for _ in range(count):
            dealer = context.socket(zmq.DEALER)
            for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 1), (zmq.RECONNECT_IVL, 20)):
                dealer.setsockopt(option, value)
            dealer.connect(self.endpoint)
            made.append(dealer)
        try:
            yield made
        finally:
            context.destroy(linger=0)

    def send(self, dealer: zmq.Socket[bytes], *frames: bytes) -> None:
        """Without waiting for long; what there is no room for is dropped."""
        try:
            dealer.send_multipart(frames, zmq.NOBLOCK)
            self.sent += 1
        except zmq.Again:
            time.sleep(0.002)
        if len(self.history) < 5000 and len(frames) == 1:
            self.history.append(frames[0])

    def flood(self, count: int, make: Callable[[], bytes]) -> None:
        """``count`` clients send what is made, one after the other, until the time is over."""
        with self.dealers(count) as dealers:
            while self.more():
                self.send(self.chance.choice(dealers), make())
            time.sleep(0.02)


def random_bytes(foe: Foe) -> None:
    """Frames of any bytes."""
    foe.flood(3, lambda: foe.chance.randbytes(foe.chance.choice((0, 1, 7, 60, 300, 5000, 30_000))))


def not_messages(foe: Foe) -> None:
    """msgpack that is no message, and bombs."""
    foe.flood(3, lambda: messages.shapeless(foe.chance))


def odd_requests(foe: Foe) -> None:
    """Requests with wrong, huge, negative and endless fields."""
    foe.flood(3, lambda: messages.any_request(foe.chance))


def out_of_order(foe: Foe) -> None:
    """An agent's messages, and a supervisor's, from peers that never said Hello."""
    kinds = (*messages.AGENTS, *messages.SUPERVISORS, control.Reply, control.News)
    foe.flood(3, lambda: messages.odd(foe.chance, foe.chance.choice(kinds), 0.9))


def rival_agent(foe: Foe) -> None:
    """Others who say they are the agent, by its own process id too."""
    with foe.dealers(3) as dealers:
        while foe.more():
            dealer = foe.chance.choice(dealers)
            for data in messages.rival(foe.chance, foe.agent):
                foe.send(dealer, data)


def sizes(foe: Foe) -> None:
    """Frames just as long as they may be, and longer; messages of a thousand frames."""
    edges = [size + by for size in (protocol.MAX_INWARD, protocol.MAX_BYTES) for by in (-1, 0, 1)]
    bomb = b"\xdd\x00\x00\x7f\xf0" + b"\x90" * 0x7FF0
    with foe.dealers(3) as dealers:
        while foe.more():
            dealer, roll = foe.chance.choice(dealers), foe.chance.random()
            if roll < 0.4:
                foe.send(dealer, bytes(foe.chance.choice(edges)))
            elif roll < 0.5:
                foe.send(dealer, bytes(8 << 20))
            elif roll < 0.7:
                foe.send(dealer, bomb)
            else:
                foe.send(dealer, *([b"x" * foe.chance.choice((0, 10, 1000))] * 1000))


def many_floods(foe: Foe) -> None:
    """A hundred clients that send the longest there is as fast as they can."""
    ask = messages.encode([1, "look", {"ask": "a" * 60}])
    longest = bytes(protocol.MAX_INWARD)
    foe.flood(PEERS, lambda: longest if foe.chance.random() < 0.8 else ask)


def look_flood(foe: Foe) -> None:
    """A hundred clients that ask and never read the answers."""
    look = messages.encode([1, "look", {"ask": "a"}])
    foe.flood(PEERS, lambda: look)


def followers(foe: Foe) -> None:
    """A hundred clients that follow, and then are silent."""
    with foe.dealers(PEERS) as dealers:
        for number, dealer in enumerate(dealers):
            foe.send(dealer, messages.encode([1, "follow", {"ask": str(number)}]))
        while foe.more():
            foe.send(dealers[0], messages.encode([1, "save", {"ask": "x"}]))  # something to tell them of
            time.sleep(0.01)


def save_flood(foe: Foe) -> None:
    """Requests for checkpoints, faster than any can be taken."""
    foe.flood(20, lambda: messages.encode([1, "save", {"ask": str(foe.sent)}]))


def tell_flood(foe: Foe) -> None:
    """One notice after the other, each a new one, and some taken back."""

    def notice() -> bytes:
        values = {
            "ask": "x", "source": "fuzz", "kind": "advice", "id": str(foe.chance.randrange(3000)),
            "deadline": foe.chance.choice((None, 0.0, -5.0, 1e9)), "text": "x" * foe.chance.choice((1, 900)),
            "withdrawn": foe.chance.random() < 0.02, "on_notice": "stay",
        }  # fmt: skip
        return messages.encode([1, "tell", values])

    foe.flood(3, notice)


def replay(foe: Foe) -> None:
    """What was said before, once more, in pieces and by others."""
    said = foe.history or [messages.any_request(foe.chance) for _ in range(50)]
    said = [each for each in said if b"save" not in each]  # a legal one is no trouble, only work
    with foe.dealers(5) as dealers:
        while foe.more():
            start = foe.chance.randrange(len(said))
            dealer = foe.chance.choice(dealers)
            for data in said[start : start + foe.chance.randrange(1, 30)]:
                foe.send(dealer, data)


def below_zeromq(foe: Foe) -> None:
    """Bytes on the unix socket: half a greeting, an endless one, other mechanisms, frames that lie of their length."""
    chance = foe.chance
    hello = wire.greeting()
    shapes: tuple[Callable[[], bytes], ...] = (
        lambda: chance.randbytes(chance.randrange(1, 3000)),
        lambda: hello[: chance.randrange(1, 64)],
        lambda: b"\xff" * 100_000,
        lambda: wire.greeting(chance.choice((b"PLAIN", b"CURVE", b"GSSAPI", b"", b"X" * 20))),
        lambda: wire.greeting(version=bytes((chance.randrange(256), chance.randrange(256)))),
        lambda: hello + wire.ready(kind=chance.choice((b"PUB", b"ROUTER", b"", b"Z" * 200))),
        lambda: hello + wire.ready() + b"\x02" + b"\xff" * 8,  # a frame of 2^64 - 1 bytes
        lambda: hello + wire.ready() + b"\x02" + (1 << 40).to_bytes(8, "big") + b"x" * 1000,
        lambda: hello + wire.ready() + chance.randbytes(2000),
        lambda: hello + wire.ready() + wire.ping() * 2000,
        lambda: hello + wire.ready(chance.randbytes(chance.randrange(300))) + wire.frame(b"x", wire.MORE),
        lambda: hello + wire.frame(b"\x05ERROR\x05sorry", wire.COMMAND),
        lambda: hello + wire.frame(b"\xc1" * 100) * 50,  # before the handshake is over
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    held: list[wire.Raw] = []
    while foe.more():
        raw = wire.Raw(foe.path)
        foe.sent += raw.send(chance.choice(shapes)())
        held.append(raw)
        if len(held) > 40:
            held.pop(chance.randrange(len(held))).close()
    for raw in held:
        raw.close()


def endless_message(foe: Foe) -> None:
    """A message whose frames never come to an end."""
    raw = wire.Raw(foe.path)
    raw.shake_hands()
    part = wire.frame(bytes(30_000), wire.MORE)
    while foe.more():
        if not raw.send(part):
            raw.close()
            raw = wire.Raw(foe.path)
            raw.shake_hands()
        foe.sent += 1
    raw.close()


def storm(foe: Foe) -> None:
    """Connections that come and go."""
    while foe.more():
        raws = [wire.Raw(foe.path) for _ in range(20)]
        for raw in raws:
            if foe.chance.random() < 0.5:
                raw.shake_hands()
            raw.close()
            foe.sent += 1


def holders(foe: Foe) -> None:
    """Connections that stay: more than one process may have open, mostly."""
    held: list[wire.Raw] = []
    while foe.more():
        raw = wire.Raw(foe.path)
        if raw.open and raw.shake_hands() and len(held) < 3000:
            held.append(raw)
            foe.sent += 1
        else:
            raw.close()
            time.sleep(0.005)
    for raw in held:
        raw.close()


def dies_in_save(foe: Foe) -> None:
    """Clients that ask for a checkpoint and are killed before it is there."""
    while foe.more():
        child = os.fork()
        if not child:
            raw = wire.Raw(foe.path)
            raw.shake_hands()
            raw.send(wire.frame(messages.encode([1, "save", {"ask": "x"}])))
            time.sleep(foe.chance.random() * 0.02)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        foe.sent += 1


KINDS: dict[str, Callable[[Foe], None]] = {
    each.__name__: each
    for each in (
        random_bytes, not_messages, odd_requests, out_of_order, rival_agent, sizes, many_floods, look_flood,
        followers, save_flood, tell_flood, replay, below_zeromq, storm, holders, dies_in_save,
        endless_message,
    )
}  # fmt: skip


def main() -> None:
    """Make trouble as each line of stdin says; answer each with one line."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard > 0 else 8192, hard))
    foes: dict[str, Foe] = {}
    for line in sys.stdin:
        what = json.loads(line)
        foe = foes.setdefault(what["endpoint"], Foe(what["endpoint"], what["agent"]))
        foe.chance, foe.sent = random.Random(what["seed"]), 0
        foe.until = time.monotonic() + what["seconds"]
        KINDS[what["kind"]](foe)
        print(json.dumps({"sent": foe.sent}), flush=True)


if __name__ == "__main__":
    main()
