"""Helpers of the training process (DataLoader workers, pools) live through a notice that is sent to all processes.

Without that they die of it, and the training process fails with them before it can be saved. Their handler is
machine code (agent/native/shield.c tells why). A signal from outside is held back as long as a supervisor is there
and a notice stands in the training process; one that came to a helper alone has its effect after a second. From its
parent, from the training process and from itself it has its effect at once, and so it has for orphans: what ends
helpers in the ordinary way ends them as ever.

All of it is for processes below the training process, never for that itself. Where the machine has no code here,
or pages can't be made executable, helpers are as without ckptd.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ckptd_agent import notice
from ckptd_agent.disguise import real_signal

_SIGNALS = 65
_FLAGS = 0x00000004 | 0x08000000 | 0x10000000  # SA_SIGINFO, SA_ONSTACK, SA_RESTART
_WORKER_SIGNALS = "torch.utils.data._utils.signal_handling"
_COMPILE_POOL = "torch._inductor.compile_worker.subproc_pool"


class _Old(ctypes.Structure):
    _fields_ = [
        ("handler", ctypes.c_void_p), ("flags", ctypes.c_long), ("timer", ctypes.c_int), ("made", ctypes.c_int),
    ]  # fmt: skip


class _Own(ctypes.Structure):
    """``struct own`` of shield.c."""

    _fields_ = [
        ("notice", ctypes.c_void_p), ("self", ctypes.c_long), ("parent", ctypes.c_long), ("began", ctypes.c_long),
        ("seen", ctypes.c_long), ("owner", ctypes.c_long), ("of", _Old * _SIGNALS),
    ]  # fmt: skip


class _Action(ctypes.Structure):
    """``struct sigaction`` of the C library."""

    _fields_ = [
        ("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]  # fmt: skip


class _Shield:
    """What there is in one process; forked children inherit it."""

    def __init__(self) -> None:
        self.entry = 0
        """Address of the code; 0: there is none."""
        self.own = _Own()
        self.page: mmap.mmap | None = None
        """Keeps the page mapped."""
        self.numbers: set[int] = set()
        """The signals that are held back in this process."""


_shield = _Shield()
_libc = ctypes.CDLL(None, use_errno=True)


def prepare(page: mmap.mmap) -> None:
    """In the training process: make the code for the helpers that it will fork. Raises OSError, AttributeError."""
    from ckptd_agent.native import CODE

    code = CODE.get(os.uname().machine)
    if code is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(f"no code for {os.uname().machine}")
    _shield.page = page
    _shield.own.notice = ctypes.addressof(ctypes.c_char.from_buffer(page))
    # A file that is mapped, and never writable: memory that was written may not be executed on some machines.
    fd = os.memfd_create("ckptd-shield", os.MFD_CLOEXEC)
    try:
        os.write(fd, code[:-8] + struct.pack("=Q", ctypes.addressof(_shield.own)))
        _shield.entry = _map(fd, len(code), mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE)
    finally:
        os.close(fd)


def _map(fd: int, size: int, protection: int, flags: int) -> int:
    function = _libc.mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    found: int = function(None, size, protection, flags, fd, 0)
    if found in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def put_on(numbers: Iterable[int]) -> None:
    """In a helper: hold these signals back from now on, whatever handlers there are or will be."""
    if not _shield.entry:
        return
    _shield.numbers.update(numbers)
    renew()
    again()
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(_signal, name, getattr(real_signal, name, None))
    signal.signal = _signal


def renew() -> None:
    """In a forked child of a helper: it has another parent."""
    _shield.own.parent, _shield.own.self = os.getppid(), os.getpid()


def again() -> None:
    """Take the place of handlers that were set past us, by C code."""
    for number in _shield.numbers:
        _cover(number)


def _cover(number: int) -> None:
    sigaction = _libc.sigaction
    sigaction.argtypes = [ctypes.c_int, ctypes.POINTER(_Action), ctypes.POINTER(_Action)]
    old = _Action()
    if sigaction(number, None, ctypes.byref(old)) or old.handler in (_shield.entry, int(signal.SIG_IGN)):
        return
    place = _shield.own.of[number]
    place.handler, place.flags = old.handler, old.flags  # complete before the handler can look at it
    new = _Action(handler=_shield.entry, flags=_FLAGS)
    sigaction(number, ctypes.byref(new), None)


def _signal(signalnum: int, handler: Any) -> Any:
    """The program sets a handler: it goes below ours. That no signal may slip through meanwhile, they are blocked."""
    if signalnum not in _shield.numbers:
        return real_signal(signalnum, handler)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signalnum})
    try:
        before = real_signal(signalnum, handler)
        _cover(signalnum)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return before


# ---- torch's workers ----------------------------------------------------------------------------


def follow(module: Any) -> None:
    """Workers set C handlers of their own: go above them there. ``module`` is torch's signal_handling."""
    first = module._set_worker_signal_handlers

    def _set_worker_signal_handlers() -> None:
        first()
        again()

    module._set_worker_signal_handlers = _set_worker_signal_handlers


def lend(module: Any) -> None:
    """torch's compile workers get a PYTHONPATH made of sys.path, where we are not: name us in it, that they join.

    ``module`` is torch's subproc_pool.
    """
    first = getattr(module, "python_subprocess_env", None)
    above = os.path.dirname(os.path.realpath(__file__))
    ours = {os.path.join(folder, "bootstrap") for folder in (above, os.path.dirname(above))}
    if first is None:
        return

    def python_subprocess_env() -> dict[str, str]:
        env: dict[str, str] = first()
        entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        mine = [entry for entry in entries if entry and os.path.realpath(entry) in ours]
        return {**env, "PYTHONPATH": os.pathsep.join([*mine, env.get("PYTHONPATH", "")])}

    module.python_subprocess_env = python_subprocess_env


class _Watch:
    """Does something with a module of torch's as soon as it has been imported; then it is gone."""

    def __init__(self, name: str, attend: Callable[[Any], None]) -> None:
        self.name, self.attend = name, attend

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            look = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = look(name, path, target) if look is not None else None
            if spec is not None and spec.loader is not None:
                self._attend(spec.loader)
                return spec
        return None

    def _attend(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            execute(module)
            self.attend(module)

        vars(loader)["exec_module"] = exec_module


def watch() -> None:
    """In the training process: let compile workers join."""
    sys.meta_path.insert(0, _Watch(_COMPILE_POOL, lend))


def join(trainer: int) -> None:
    """In a Python that the training process (pid ``trainer``) has started: be one of its helpers.

    Raises:
        OSError, ValueError: it is gone, or has no page.
    """
    path = f"/proc/{trainer}/fd/{int(os.environ[notice.VARIABLE])}"
    if not os.readlink(path).startswith(f"/memfd:{notice.NAME}"):
        raise OSError(f"{path} is something else")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        page = mmap.mmap(fd, notice.SIZE)
    finally:
        os.close(fd)
    prepare(page)
    numbers = [number for number in notice.signal_numbers() if signal.getsignal(number) is not signal.SIG_IGN]
    put_on(numbers)
    os.register_at_fork(after_in_child=renew)
    sys.meta_path.insert(0, _Watch(_WORKER_SIGNALS, follow))
