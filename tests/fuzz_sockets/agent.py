"""A real agent, and a supervisor that says anything: the program must not know."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import zmq

from ckptd import control, protocol
from ckptd.daemon import launch
from ckptd.settings import Settings
from fuzz_sockets import messages
from harness.outcome import Outcome, compare, environment, files_below

DEADLINE = 60.0
PROGRAM = """\
import time
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), 0.01)
log = open("log.txt", "w")
for step in range(250):
    loss = model(torch.randn(4, 8)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.9f}", flush=True)
    log.write(f"{loss.item():.9f}\\n")
    time.sleep(0.008)
log.close()
torch.save(model.state_dict(), "model.pt")
print("done")
"""
DUMPS = 40
"""Requests that are meant; each costs the program a copy."""


class MadSupervisor:
    """Binds where an agent looks for its supervisor, and says what comes to its mind."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.endpoint = f"ipc://{folder}/mad.sock"
        self._chance = chance
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._bind()
        self._next = 0.0
        self.dumps: list[str] = []
        self.hellos = self.dumped = self.said = 0

    def _bind(self) -> None:
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, 50)
        self._socket.bind(self.endpoint)
        self._peers: list[bytes] = []

    def turn(self) -> None:
        """Listen a little, then say something to everybody who has spoken."""
        while self._socket.poll(2):
            peer, data = self._socket.recv_multipart()
            if peer not in self._peers:
                self._peers.append(peer)
            message = protocol.unpack(data)
            self.hellos += isinstance(message, protocol.Hello)
            if isinstance(message, protocol.Dumped):
                self.dumped += 1
                self._send(peer, protocol.pack(protocol.Unsaved(message.dump, "no, not that one")))
        for peer in self._peers:
            for _ in range(self._chance.randrange(20)):
                self._send(peer, *self._something())
            if len(self.dumps) < DUMPS and time.monotonic() > self._next:
                self._next = time.monotonic() + 0.3
                self._send(peer, self._dump())
        if self.dumped and self._chance.random() < 0.01:  # it goes away, and comes back
            self._socket.close(0)
            time.sleep(self._chance.random() * 0.2)
            self._bind()

    def _send(self, peer: bytes, *frames: bytes) -> None:
        try:
            self._socket.send_multipart([peer, *frames], zmq.NOBLOCK)
            self.said += 1
        except zmq.ZMQError:
            return  # it doesn't read as fast

    def _something(self) -> list[bytes]:
        chance, roll = self._chance, self._chance.random()
        if roll < 0.3:
            return [chance.randbytes(chance.choice((0, 3, 100, 5000)))]
        if roll < 0.5:
            return [messages.shapeless(chance)]
        if roll < 0.51:
            return [bytes(protocol.MAX_BYTES + chance.choice((-1, 0)))]
        if roll < 0.511:
            return [bytes(protocol.MAX_BYTES + 1)]  # which ends the connection
        if roll < 0.55:
            return [b"x"] * 1000
        if roll < 0.7:
            kinds = (protocol.Saved, protocol.Unsaved, *messages.AGENTS, *messages.HARMLESS, control.Reply)
            return [messages.odd(chance, chance.choice(kinds), 0.9)]
        if roll < 0.8:
            every = chance.choice((-1, -(2**31), 0, 2**53, "x", float("nan")))
            return [messages.encode([1, "welcome", {"every_steps": every}])]
        values = {"dump": "x", "reason": "", "deadline": float("nan"), "leave": True}
        return [
            messages.encode([1, "dump", {**values, "deadline": chance.choice((float("nan"), "", 2**60))}])
        ]

    def _dump(self) -> bytes:
        """A request that is one, with a time that may have passed; some twice, under one id."""
        chance = self._chance
        if not self.dumps or chance.random() < 0.7:
            self.dumps.append(f"{len(self.dumps)}-{chance.randrange(1 << 24):06x}")
        at = time.monotonic() + chance.choice((-1000.0, 0.0, 0.3, 5.0))
        return protocol.pack(protocol.Dump(self.dumps[-1], chance.choice(messages.TEXTS), at, leave=False))

    def close(self) -> None:
        """Go away for good."""
        self._context.destroy(0)


def against_an_agent(folder: Path, chance: random.Random) -> list[str]:
    """Run a program alone, and under a mad supervisor; how the two differ, in words."""
    script = folder / "train.py"
    script.write_text(PROGRAM)
    segments = folder / "segments"
    segments.mkdir(mode=0o700)
    mad = MadSupervisor(folder, chance)
    start = launch.Attempt("0123abcd", 1, mad.endpoint, segments, "")
    env = launch.environment(environment(), start, Settings())
    plain, under = folder / "plain", folder / "under"
    with _run(script, plain, environment()) as alone, _run(script, under, env) as led:
        try:
            end = time.monotonic() + DEADLINE
            while led.poll() is None and time.monotonic() < end:
                mad.turn()
            alone_did, led_did = _outcome(alone, plain), _outcome(led, under)
        finally:
            for each in (alone, led):
                each.kill()
            mad.close()
    differences = compare(alone_did, led_did)
    if not mad.hellos or mad.said < 200 or not mad.dumped:
        told = f"{mad.hellos} Hellos, {mad.dumped} dumps, {mad.said} messages"
        differences.append(f"{told}: that was no test")
    if left := [path for path in segments.iterdir() if path.suffix == ".seg"][2:]:
        differences.append(f"{2 + len(left)} segments were made, and stayed")
    return differences


def _run(script: Path, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    folder.mkdir()
    with (folder.with_suffix(".out")).open("wb") as out, (folder.with_suffix(".err")).open("wb") as err:
        return subprocess.Popen([sys.executable, script], cwd=folder, env=env, stdout=out, stderr=err)


def _outcome(process: subprocess.Popen[bytes], folder: Path) -> Outcome:
    out, err = (folder.with_suffix(f".{name}").read_bytes() for name in ("out", "err"))
    return Outcome(process.wait(DEADLINE), out, err, files_below(folder))
