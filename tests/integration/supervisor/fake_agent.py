"""A program that speaks ckptd's protocol itself: a "training" that counts steps, saves and resumes.

python fake_agent.py STEPS [key=value ...]

Each step takes ``pace`` seconds and prints its number. The state is the step. Keys:
  pace=0.02        seconds per step
  crash=N:CODE     at step N, in an attempt that has not resumed past it: os._exit(CODE), or a signal if < 0
  always=N:CODE    the same, in every attempt
  handler=CODE     a SIGTERM handler of its own, which exits with CODE after the dump
  hello=no|often   never says Hello; says it again at each tenth step, as one that has reconnected does
  dump=slow|long|never|last|refuse|wrong   how it answers a request; 'long' says so in its output, 'last' answers
                   none but one to leave
  die=dumped|silent|copying  killed when its copy is complete, having said so or not; or half way through it
  mib=N            so large a state, and a word when the copy to leave with begins
  leave=no         doesn't end after Saved
  resume=refuse|damaged|notice   what it does instead of resuming
  early=SIGNAL     gets this signal before Hello
  nonsense=N       sends N frames of rubbish first
  child=yes        starts a helper process that outlives it
  source=PATH      recorded as a source
  due=yes          sends Due as Welcome asks

FAKE_HOLD=N in the environment: an attempt that has not resumed stays at step N until a notice or a request comes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import zmq

from ckptd import protocol
from ckptd.errors import DamagedError
from ckptd.memory.room import Room
from ckptd.memory.segment import REGION, SegmentWriter, arrange
from ckptd.store.verify import verify_checkpoint

STEPS = int(sys.argv[1])
KEYS = dict(word.split("=", 1) for word in sys.argv[2:])
ATTEMPT = int(os.environ.get("CKPTD_ATTEMPT", "0"))
RESUME = os.environ.get("CKPTD_RESUME", "")
HOLD = 0 if RESUME else int(os.environ.get("FAKE_HOLD", "0"))


class Agent:
    def __init__(self) -> None:
        self.step = 0
        self.every = 0
        self.notice = 0
        self.taken = ""
        self.told: protocol.Message = protocol.Finished()
        self.started = time.monotonic()
        self.leaving: protocol.Dump | None = None
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 1000)
        self.socket.connect(os.environ["CKPTD_ENDPOINT"])
        signal.signal(signal.SIGTERM, self.on_signal)

    def on_signal(self, number: int, frame: object) -> None:
        self.notice = number

    def send(self, message: protocol.Message) -> None:
        self.socket.send(protocol.pack(message))

    def say_hello(self) -> None:
        for number in range(int(KEYS.get("nonsense", "0"))):
            self.socket.send(os.urandom(number % 50))
            self.socket.send_multipart([b"a", b"b", b"c"])
        self.send(protocol.Hello(os.getpid(), 0, 1, sys.argv, sys.version, RESUME))

    def resume(self) -> None:
        if not RESUME:
            return
        if KEYS.get("resume") == "damaged":
            self.send(protocol.Refused("the graph needs a tensor that is not there", damaged=True))
            time.sleep(0.05)
            sys.exit(14)
        if KEYS.get("resume") == "refuse":
            self.send(protocol.Refused("line 7 of train.py is not reached: --fresh starts over"))
            time.sleep(0.05)
            sys.exit(14)
        if KEYS.get("resume") == "notice" and ATTEMPT == 2:
            self.send(protocol.Notice(signal.SIGTERM))
            time.sleep(0.05)
            die(signal.SIGTERM)
        try:
            verify_checkpoint(Path(RESUME))
        except DamagedError as error:
            self.send(protocol.Refused(str(error), damaged=True))
            time.sleep(0.05)
            sys.exit(14)
        manifest = json.loads((Path(RESUME) / "manifest.json").read_text())
        self.step = manifest["step"]
        self.send(protocol.Resumed(self.step, time.monotonic() - self.started))

    def dump(self, order: protocol.Dump) -> None:
        how = KEYS.get("dump", "")
        if how == "never" or (how == "last" and not order.leave):
            return
        if how == "refuse":
            self.send(protocol.Undumped(order.dump, "a step inside a generator can't be saved"))
            return
        if how == "slow":
            time.sleep(0.3)
        if how == "long":
            log("asked")
            time.sleep(1.5)
        graph = str(self.step).encode()
        data = bytes(range(256)) * 16 * (int(KEYS.get("mib", 0)) * 256 or 1)
        sources = {}
        if "source" in KEYS:
            path = Path(KEYS["source"])
            sources = {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
        path = Path(os.environ["CKPTD_SEGMENTS"]) / f"{order.dump}.seg"
        tensors, facts = arrange([("t0", "F32", len(data))]), {"sources": sources, "step": self.step}
        writer = SegmentWriter(Room(path), tensors, graph, facts, order.dump)
        if "mib" in KEYS and order.leave:
            self.send(protocol.Copying(order.dump, str(path)))
        for region in range(writer.regions):
            if KEYS.get("die") == "copying" and order.leave and region == writer.regions // 2:
                time.sleep(0.1)  # what is there is on its way to the disk
                os.kill(os.getpid(), signal.SIGKILL)
            start = region * REGION
            writer.put(start, data[start : start + REGION])
            writer.arrived(region)
        writer.finish()
        if how == "long":
            log(f"copied {self.step}")
        if KEYS.get("die") == "silent":
            os.kill(os.getpid(), signal.SIGKILL)
        named = "/etc/hostname" if how == "wrong" else str(path)
        self.told = protocol.Dumped(order.dump, named, self.step, 0.001)
        self.send(self.told)
        if KEYS.get("die") == "dumped":
            time.sleep(0.05)  # the message is on its way; the commit is not done or has just been
            os.kill(os.getpid(), signal.SIGKILL)

    def read(self, wait: float = 0.0) -> None:
        while self.socket.poll(int(wait * 1000)):
            wait = 0.0
            message = protocol.unpack(self.socket.recv())
            if isinstance(message, protocol.Welcome):
                self.every = message.every_steps
            elif isinstance(message, protocol.Dump):
                if message.leave and self.leaving is not None:
                    continue
                if message.dump == self.taken and KEYS.get("hello") == "often":
                    self.send(self.told)  # asked for again with our Hello: it was lost on its way
                    continue
                self.taken = message.dump
                if message.leave:
                    self.leaving = message
                self.dump(message)
            elif isinstance(message, protocol.Saved):
                log(f"saved {message.step}")
                if (
                    self.leaving is not None
                    and message.dump == self.leaving.dump
                    and KEYS.get("leave") != "no"
                ):
                    self.leave()
            elif isinstance(message, protocol.Unsaved):
                log(f"unsaved {message.why}")
                self.leaving = None

    def leave(self) -> None:
        if "handler" in KEYS:
            sys.exit(int(KEYS["handler"]))
        die(signal.SIGTERM)

    def train(self) -> None:
        pace = float(KEYS.get("pace", "0.02"))
        while self.step < STEPS:
            self.step += 1
            print(self.step, flush=True)
            crash(KEYS.get("always"), self.step)
            if ATTEMPT == 1:
                crash(KEYS.get("crash"), self.step)
            self.send(protocol.Progress(self.step, 0.5, float(KEYS.get("pace", "0.02"))))
            if KEYS.get("hello") == "often" and self.step % 10 == 0:
                self.say_hello()
            if KEYS.get("due") and self.every and self.step % self.every == 0:
                self.send(protocol.Due(self.step))
            while self.step == HOLD and not self.notice and not self.taken:
                self.read(0.005)
            end = time.monotonic() + pace
            while (left := end - time.monotonic()) > 0 or self.leaving is not None:
                if self.notice:
                    self.send(protocol.Notice(self.notice))
                    self.notice = 0
                self.read(max(0.0, min(left, 0.005)) if self.leaving is None else 0.005)
                if KEYS.get("dump") in ("never", "refuse"):
                    self.leaving = None


def log(text: str) -> None:
    os.write(2, f"{text}\n".encode())  # in one piece: ckptd writes there too


def crash(what: str | None, step: int) -> None:
    if what:
        at, code = map(int, what.split(":"))
        if step == at:
            sys.stdout.flush()
            if code < 0:
                os.kill(os.getpid(), -code)
            os._exit(code)


def die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def main() -> None:
    if KEYS.get("child") == "yes":
        helper = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
        )
        log(f"helper {helper.pid}")
    if "early" in KEYS and ATTEMPT == 1:
        die(int(KEYS["early"]))
    if KEYS.get("hello") == "no":
        time.sleep(float(KEYS.get("pace", "0.02")) * STEPS)
        return
    agent = Agent()
    agent.say_hello()
    agent.resume()
    agent.train()


main()
