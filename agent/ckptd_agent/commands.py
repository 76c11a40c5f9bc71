"""Commands that a replay starts again: they may read and answer, but change no file a second time.

Landlock (Linux 5.13) takes the right to write from a thread and from what it starts, for good; so each command is
started on a thread of its own, which ends as soon as it has. What was open before stays writable: pipes, and
stdout, which is muted. Where there is no Landlock the resume is refused, but for commands that plainly read.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import weakref
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ckptd_agent import link, threads

_libc = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of Landlock's system calls; they are the same on all machines."""
_ASK_VERSION = 1
_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Write to a file, and what removes and makes entries of folders (LANDLOCK_ACCESS_FS_*)."""
_SHARED = ("shm", "hugepages")
"""Entries of /dev in which programs keep files of their own."""

_THROUGH = (
    "ckptd_agent",
    "subprocess",
    "os",
    "asyncio",
    "concurrent",
    "contextlib",
    "threading",
)
"""Modules by which a command is started; whose command it is, is told by what calls them."""
_KEEPERS = ("torch", "triton", "wandb", "ctypes")
"""Packages whose commands keep files that are no part of the program's doing: caches by content, and a tracker's
service, which lives on behind the replay."""
_READERS = (
    "arch",
    "cat",
    "date",
    "df",
    "du",
    "echo",
    "fc-list",
    "free",
    "getconf",
    "head",
    "hostname",
    "id",
    "ldconfig",
    "ls",
    "lscpu",
    "lspci",
    "nproc",
    "nvidia-smi",
    "pwd",
    "rocm-smi",
    "tail",
    "true",
    "uname",
    "uptime",
    "wc",
    "which",
    "whoami",
)
_GIT_READERS = (
    "--version",
    "cat-file",
    "describe",
    "diff",
    "log",
    "ls-files",
    "ls-tree",
    "remote",
    "rev-list",
    "rev-parse",
    "show",
    "show-ref",
    "status",
    "symbolic-ref",
    "version",
)
_SHELLS = set("|&;<>()$`\\\"'*?[]#~{}!\n")
"""What a shell does not take as it stands."""

_starting: set[int] = set()
"""Threads that are about to start a command."""
_begun: list[weakref.ref[Any]] = []
"""Those of subprocess that may not write."""


class _NoLandlockError(Exception):
    """The kernel, or what stands before it, does not have it."""


class _Beneath(ctypes.Structure):
    """struct landlock_path_beneath_attr"""

    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def guards() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Owner, name and guard of all by which commands are started: what runs under os.popen or os.spawnv, too."""
    return [
        (subprocess.Popen, "_execute_child", _popen(subprocess.Popen._execute_child)),  # type: ignore[attr-defined]
        (os, "system", _guard(os.system, 0)),
        (os, "posix_spawn", _guard(os.posix_spawn, 1)),
        (os, "posix_spawnp", _guard(os.posix_spawnp, 1)),
        (os, "_spawnvef", _guard(os._spawnvef, 2)),  # type: ignore[attr-defined]
    ]


def is_starting() -> bool:
    """This thread is about to start a command, or is its copy in a child that will be the command."""
    return get_ident() in _starting


def still_running() -> list[str]:
    """The commands that were kept from writing, and are not over at the end of the replay."""
    alive = [process for process in (each() for each in _begun) if process is not None]
    _begun.clear()
    return [f"{_shown(each.args)!r} (pid {each.pid})" for each in alive if _runs(each)]


def _guard(real: Callable[..., Any], place: int) -> Callable[..., Any]:
    """``place``: which argument says what is run."""

    def guard(*args: Any, **kwargs: Any) -> Any:
        words = args[place] if len(args) > place else kwargs.get("command", kwargs.get("argv", ()))
        return _start(real, args, kwargs, words)

    return guard


def _popen(real: Callable[..., Any]) -> Callable[..., Any]:
    def execute_child(self: Any, *args: Any, **kwargs: Any) -> None:
        _start(real, (self, *args), kwargs, self.args)

    return execute_child


def _start(real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], words: Any) -> Any:
    """Call what starts a command where it may not write; a command that does not come under this is just run."""
    if is_starting() or _whose(sys._getframe(1)) in _KEEPERS:
        return real(*args, **kwargs)
    try:
        found = _beside(real, args, kwargs)
        if args and isinstance(args[0], subprocess.Popen):
            _begun[:] = [each for each in _begun if each() is not None] + [weakref.ref(args[0])]
        return found
    except _NoLandlockError:
        if not _only_reads(words):
            link.refuse(
                f"the command {_shown(words)!r} runs on the way to the checkpoint, and can't be kept from changing "
                "files here a second time: that takes Landlock, which is not to be had (Linux 5.13 and newer have it)"
            )
    return real(*args, **kwargs)


def _beside(real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call it on a thread that may not write; what it returns or raises."""
    over = allocate_lock()
    over.acquire()
    came: list[tuple[bool, Any]] = []
    # The command inherits the thread's mask: it is to be the caller's.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def work() -> None:
        _starting.add(get_ident())
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _give_up_writing()
            came.append((True, real(*args, **kwargs)))
        except BaseException as error:
            came.append((False, error))
        finally:
            _starting.discard(get_ident())
            over.release()

    threads.start(work)
    _wait(over)
    done, what = came.pop()
    if done:
        return what
    try:
        raise what
    finally:
        del what  # it refers to this frame


def _wait(over: Any) -> None:
    """Also if a signal handler raises in the meantime: the caller must not see a command that is half started."""
    try:
        over.acquire()
    except BaseException:
        over.acquire()
        raise


# ---- Landlock ------------------------------------------------------------------------------------


def _give_up_writing() -> None:
    """Take from this thread, and from what it starts, the right to change files. Raises _NoLandlockError."""
    try:
        ruleset, rights = _ruleset()
        try:
            _allow_what_is_no_file(ruleset, rights)
            _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            _call("syscall", _RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)
    except OSError as error:
        raise _NoLandlockError from error


def _ruleset() -> tuple[int, int]:
    """A descriptor, and the rights that are taken away."""
    version = _call("syscall", _CREATE_RULESET, None, 0, _ASK_VERSION)
    rights = _CHANGES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    handled = ctypes.c_uint64(rights)
    return _call("syscall", _CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0), rights


def _allow_what_is_no_file(ruleset: int, rights: int) -> None:
    """/proc, and the devices: not the memory beside them, which holds files."""
    _allow(ruleset, "/proc", rights)
    with os.scandir("/dev") as entries:
        for each in entries:
            if each.is_dir(follow_symlinks=False):
                if each.name not in _SHARED:
                    _allow(ruleset, each.path, rights)
            elif not each.is_file(follow_symlinks=False) and not each.is_symlink():
                _allow(ruleset, each.path, rights & (_WRITE_FILE | _TRUNCATE))


def _allow(ruleset: int, path: str, rights: int) -> None:
    with suppress(OSError):  # it is gone, or can't be reached: then the command can't either
        place = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _call("syscall", _ADD_RULE, ruleset, _BENEATH, ctypes.byref(_Beneath(rights, place)), 0)
        finally:
            os.close(place)


def _call(name: str, *args: Any) -> int:
    function = getattr(_libc, name)
    function.restype = ctypes.c_long
    found: int = function(*[ctypes.c_long(each) if isinstance(each, int) else each for each in args])
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


# ---- what a command is ---------------------------------------------------------------------------


def _whose(frame: Any) -> str:
    """The package that starts it."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _THROUGH:
            return package
        frame = frame.f_back
    return ""


def _only_reads(words: Any) -> bool:
    """It is one of those that plainly do, with no shell's doing about it."""
    if isinstance(words, str | bytes | os.PathLike):
        text = os.fsdecode(words)
        parts = [] if _SHELLS & set(text) else text.split()
    else:
        parts = [os.fsdecode(each) for each in words]
    if not parts or any(each.startswith("--output") for each in parts):
        return False
    name = os.path.basename(parts[0])
    if name == "git":
        return next(iter(_without_options(parts[1:])), "") in _GIT_READERS
    return name in _READERS


def _without_options(parts: list[str]) -> list[str]:
    """Git's words from its verb on."""
    while parts and parts[0] in ("-C", "--no-pager"):
        parts = parts[2:] if parts[0] == "-C" else parts[1:]
    return parts


def _shown(words: Any) -> str:
    """As in a shell, and not too long for a sentence."""
    single = isinstance(words, str | bytes | os.PathLike)
    text = os.fsdecode(words) if single else shlex.join(os.fsdecode(each) for each in words)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _runs(process: Any) -> bool:
    """Asked without reaping it, which is the program's to do."""
    if process.returncode is not None:
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
