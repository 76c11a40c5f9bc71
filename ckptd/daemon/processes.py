"""The job's processes: spawning the main one, seeing them end, ending what is left.

ckptd is the subreaper of what it starts: a process whose parent is gone becomes ckptd's own child, so
"all descendants of ckptd" is the job's whole tree, daemonised helpers included.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ckptd.daemon.cell import make_cell
from ckptd.daemon.openfiles import as_given
from ckptd.errors import CkptdError, CommandNotFoundError, CommandUnusableError

if TYPE_CHECKING:  # else imported where it is used: the program need not wait for it to start
    import psutil

_PR_SET_CHILD_SUBREAPER = 36
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these from its start on; a program must not inherit that."""


@dataclass(frozen=True)
class ProcessId:
    """A process that can't be mistaken for a later one with the same pid."""

    pid: int
    started: float
    """Unix seconds, as psutil gives it."""

    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            return _same(process.create_time(), self.started) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def process_id(pid: int) -> ProcessId:
    """The identity of a running (or not yet reaped) process; raises psutil.NoSuchProcess."""
    import psutil

    return ProcessId(pid, psutil.Process(pid).create_time())


def _same(one: float, other: float) -> bool:
    return abs(one - other) < 0.02  # a clock tick is 0.01 s


def become_subreaper() -> None:
    """Make orphans among our descendants our children. Raises CkptdError where the kernel can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise CkptdError(f"the kernel refuses to make ckptd a subreaper: {os.strerror(ctypes.get_errno())}")


def spawn(path: str, argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int]) -> int:
    """Start a program in a process group of its own; returns its pid.

    Descriptors, terminal and working folder are inherited; ``mask`` is the signal mask it begins with.
    posix_spawn rather than fork: nothing of ours runs in the child, and the group exists before it does.

    Raises:
        CommandNotFoundError, CommandUnusableError: it can't be started; status as in a shell.
    """
    try:
        with as_given():
            return os.posix_spawn(
                path, list(argv), dict(env), setpgroup=0, setsigmask=list(mask), setsigdef=list(_RESTORED)
            )
    except FileNotFoundError as error:
        raise CommandNotFoundError(f"{argv[0]}: not found, or the interpreter in its first line") from error
    except OSError as error:
        raise CommandUnusableError(f"{argv[0]} can't be run: {(error.strerror or '').lower()}") from error


def reap() -> list[tuple[int, int | None, int]]:
    """Collect the news of children without waiting: (pid, status or None, stop signal or 0).

    The status is 0 to 255, or minus a signal's number; None for a child that has been stopped.
    """
    news: list[tuple[int, int | None, int]] = []
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return news
        if pid == 0:
            return news
        if os.WIFSTOPPED(raw):
            news.append((pid, None, os.WSTOPSIG(raw)))
        else:
            news.append((pid, os.waitstatus_to_exitcode(raw), 0))


def marked(mark: str) -> list[int]:
    """Processes of this user that were started with ``mark`` (NAME=VALUE) in their environment; not this one."""
    wanted = b"\0" + os.fsencode(mark) + b"\0"
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if (
                folder.stat().st_uid == os.geteuid()
                and wanted in b"\0" + folder.joinpath("environ").read_bytes()
            ):
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended, or is not ours to look into
    return found


def send(pid: int, number: int) -> None:
    """Send a signal to a child that has not been reaped; one that is gone is no error."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone, or it changed its user: not ours to signal


def send_group(group: int, number: int) -> None:
    """Send a signal to a process group; one that is gone is no error."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def why_it_stays(process: psutil.Process) -> str:
    """A process that SIGKILL has not ended, and what it waits for, as far as the kernel says."""
    try:
        folder = Path(f"/proc/{process.pid}")
        name, _, rest = folder.joinpath("stat").read_text().partition("(")[2].rpartition(")")
        state = rest.split()[0]
    except (OSError, IndexError):
        return f"process {process.pid}"
    try:
        place = folder.joinpath("wchan").read_text().strip("0\n")
    except OSError:
        place = ""
    waits = f"state {state}" + (f", in {place}" if place else "")
    if state == "D":
        waits = f"waits in the kernel, for a disk, a file system or a device: {waits}"
    return f"process {process.pid} ({name}; {waits})"


class Tree:
    """All processes of the job: our descendants, except those that were ours before it began."""

    def __init__(self) -> None:
        self._before = set() if _childless() else {(p.pid, p.create_time()) for p in _children()}
        self._adopted: ProcessId | None = None
        self._mark = ""
        self._cell = make_cell()

    def begin(self, pid: int) -> None:
        """The main process has been started."""
        if self._cell is not None:
            self._cell.take(pid)

    def adopt(self, root: ProcessId, mark: str) -> None:
        """Count a process that is not our child as the job's: with its descendants, and whatever has the ``mark``
        (NAME=VALUE) in the environment that it was started with: those have lost their parent, and we are not
        who gets them."""
        self._adopted, self._mark = root, mark

    def living(self) -> list[psutil.Process]:
        """Descendants that still run."""
        found = {
            process.pid: process
            for child in _children()
            if (child.pid, _created(child)) not in self._before
            for process in [child, *_children(child, deep=True)]
        }
        if self._adopted is not None:
            found.update({process.pid: process for process in self._foreign(self._adopted)})
        return [process for process in found.values() if not _zombie(process)]

    def _foreign(self, root: ProcessId) -> list[psutil.Process]:
        import psutil

        pids = marked(self._mark)
        if root.alive():
            pids.append(root.pid)
        found: list[psutil.Process] = []
        for pid in pids:
            try:
                process = psutil.Process(pid)
            except psutil.NoSuchProcess:
                continue
            found.extend([process, *_children(process, deep=True)])
        return found

    def holds(self, pid: int) -> bool:
        """Whether a process is one of the job's."""
        return any(process.pid == pid for process in self.living())

    def signal(self, number: int) -> int:
        """Send a signal to each that still runs; returns how many there were."""
        import psutil

        living = self.living()
        if number == signal.SIGKILL and living and self._cell is not None:
            self._cell.kill()
        for process in living:
            try:
                process.send_signal(number)  # psutil compares the start time first
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return len(living)


def _childless() -> bool:
    """The kernel says that this process has no children; False where it doesn't say."""
    try:
        return not any(task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir())
    except OSError:
        return False


def _children(process: psutil.Process | None = None, deep: bool = False) -> list[psutil.Process]:
    """Of a process, or of this one."""
    import psutil

    try:
        return (process or psutil.Process()).children(recursive=deep)
    except psutil.NoSuchProcess:
        return []


def _created(process: psutil.Process) -> float:
    import psutil

    try:
        return process.create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _zombie(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
