"""A program whose agent has gone mad: it says Hello as it should, and then anything.

python -m fuzz_sockets.hostile SEED SECONDS
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import zmq

from ckptd import protocol
from fuzz_sockets import messages

MAD = [
    kind for kind in messages.AGENTS if kind not in (protocol.Refused, protocol.Finished)
]  # those end a job as they should


def main() -> None:
    """Be mad for some seconds, then come to an ordinary end."""
    chance, until = random.Random(int(sys.argv[1])), time.monotonic() + float(sys.argv[2])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(os.environ["CKPTD_ENDPOINT"])
    hello = protocol.pack(protocol.Hello(os.getpid(), 0, 1, [], ""))
    socket.send(hello)
    wanted: list[str] = []
    while time.monotonic() < until:
        for data in _some(chance, wanted, hello):
            try:
                socket.send(data, zmq.NOBLOCK)
            except zmq.Again:
                time.sleep(0.002)
        while socket.poll(0):
            message = protocol.unpack(socket.recv())
            if isinstance(message, protocol.Dump) and message.leave:  # else it is ended, and rightly
                socket.send(protocol.pack(protocol.Undumped(message.dump, "madness")))
            elif isinstance(message, protocol.Dump):
                wanted.append(message.dump)
    while socket.poll(50):
        socket.recv()
    for dump in wanted:
        socket.send(protocol.pack(protocol.Undumped(dump, "not any more")))
    time.sleep(0.2)
    print("an ordinary end", flush=True)


def _some(chance: random.Random, wanted: list[str], hello: bytes) -> list[bytes]:
    roll = chance.random()
    if wanted and roll < 0.3:
        dump = wanted.pop(chance.randrange(len(wanted)))
        folder = os.environ["CKPTD_SEGMENTS"]
        name = chance.choice(("", "x" * 300, "none.seg", "\0", "../x", "a/b", "process", "torn.seg"))
        if name == "torn.seg":
            with open(f"{folder}/{name}", "wb") as file:
                file.write(chance.randbytes(chance.randrange(5000)) + b"CKPTDSEG")
        step, seconds = chance.choice(messages.NUMBERS), chance.choice(messages.NUMBERS)
        values = {
            "dump": dump, "segment": f"{folder}/{name}", "step": int(step) if abs(step) < 1e18 else 1,
            "seconds": seconds,
        }  # fmt: skip
        return [
            messages.encode([1, "dumped", values]),
            messages.encode([1, "undumped", {"dump": dump, "why": chance.choice(messages.TEXTS)}]),
        ]
    if roll < 0.4:
        return [messages.shapeless(chance)]
    if roll < 0.42:
        return [hello]
    return [messages.odd(chance, chance.choice(MAD), 0.95)]


if __name__ == "__main__":
    main()
