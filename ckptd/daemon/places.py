"""Folders that live no longer than a supervisor: its socket's, and that of segments in shared memory."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ckptd.daemon.processes import ProcessId
from ckptd.errors import CkptdError, LockedError
from ckptd.memory.segment import Segment

IPC_PATH_MAX = 107
"""Bytes of a unix socket's path (sockaddr_un less its final zero)."""


def private_folder(path: Path) -> Path:
    """Make a folder of mode 0700, or take the one that is there if it is ours alone.

    Raises:
        CkptdError: it belongs to another user, or others may write there.
    """
    for _ in range(_TRIES):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass  # looked at below: it may be anybody's
        except OSError as error:
            raise CkptdError(f"can't make the folder {path}: {(error.strerror or '').lower()}") from error
        try:
            return _made_private(path)
        except FileNotFoundError:
            continue  # another ckptd has swept it away, for nobody held it yet
    raise CkptdError(f"the folder {path} is removed again and again: what does that?")


def _made_private(path: Path) -> Path:
    """Raises CkptdError, FileNotFoundError."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise CkptdError(f"{path} is not a folder of yours: remove it, or set XDG_RUNTIME_DIR to one that is")
    if status.st_mode & 0o022:
        raise CkptdError(f"{path} can be written by others: remove it, or set XDG_RUNTIME_DIR to another")
    if status.st_mode & 0o077 or (status.st_mode & 0o700) != 0o700:
        path.chmod(0o700)
    return path


RUNTIME = "CKPTD_RUNTIME_DIR"
"""The daemon names its own runtime folder to the ckptd of a job: that of the user's login may go when that ends."""


def runtime_folder() -> Path:
    """$CKPTD_RUNTIME_DIR, else $XDG_RUNTIME_DIR/ckptd, or /tmp/ckptd-UID where there is none of ours.

    Raises CkptdError.
    """
    given = os.environ.get(RUNTIME, "")
    if given.startswith("/") and _ours(Path(given)):
        return private_folder(Path(given))
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/") and _ours(Path(named)):
        return private_folder(Path(named) / "ckptd")
    return private_folder(Path("/tmp") / f"ckptd-{os.geteuid()}")


def _ours(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return mine and os.access(path, os.W_OK | os.X_OK)


class Place:
    """The path of a job's socket, ours as long as the lock file beside it is held.

    ZeroMQ binds over a socket that is in use without a word, so the lock decides who may bind.
    """

    def __init__(self, key: str, former: str = "") -> None:
        """Claim it. ``former``: the endpoint of a ckptd that was killed, whose program still runs and connects to.

        Raises LockedError, CkptdError.
        """
        folder = runtime_folder()
        self._made: Path | None = None
        if former:
            folder = private_folder(Path(former.removeprefix("ipc://")).parent)
        elif len(os.fsencode(folder / f"{key}.sock")) > IPC_PATH_MAX:
            from tempfile import mkdtemp  # here: it brings much with it, and every start would wait for that

            folder = self._made = Path(mkdtemp(prefix="ckptd-", dir="/tmp"))
        _sweep_sockets(folder)
        self.socket = folder / f"{key}.sock"
        self._lock = folder / f"{key}.lock"
        fd = _lock_patiently(lambda: _lock(self._lock, os.O_RDWR | os.O_CREAT))
        if fd is None:
            raise LockedError(f"another ckptd listens on {self.socket}: wait until it ends")
        self._fd = fd

    @property
    def endpoint(self) -> str:
        """As ZeroMQ wants it."""
        return f"ipc://{self.socket}"

    def close(self) -> None:
        """Remove the socket and the lock file, and with them the claim."""
        self.socket.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)
        os.close(self._fd)
        if self._made is not None:
            self._made.rmdir()


@dataclass(frozen=True)
class Copy:
    """A complete segment."""

    path: Path
    dump: str
    step: int


class SegmentFolder:
    """Where the agent makes its segments. What lies there at the start is a dead supervisor's."""

    def __init__(self, key: str, fallback: Path, shm: Path = Path("/dev/shm"), *, keep: bool = False) -> None:
        """``fallback`` is used where shared memory can't be written. Raises LockedError, CkptdError.

        ``keep``: what lies there may be used yet: copies that are complete, rooms of a process that runs.
        """
        name = f"ckptd-{os.geteuid()}-{key}"
        usable = shm.is_dir() and os.access(shm, os.W_OK | os.X_OK)
        self.in_memory = usable and not _taken(shm / name)
        self.path = shm / name if self.in_memory else fallback
        self.spill = fallback
        """Where storages go that memory has no room for."""
        fd = _lock_patiently(lambda: _lock(private_folder(self.path), os.O_RDONLY | os.O_DIRECTORY))
        if fd is None:
            raise LockedError(f"another ckptd uses {self.path}: wait until it ends")
        self._fd = fd
        if not keep:
            _empty(self.path)
            if fallback.is_dir():
                _empty(fallback)
        if self.in_memory:
            _sweep_segments(shm, name)

    def holds(self, path: Path) -> bool:
        """Whether a path that an agent named is a file right in this folder, and no link."""
        try:
            return path.parent in (self.path, self.spill) and path.is_file() and not path.is_symlink()
        except (OSError, ValueError):
            return False  # too long for a name, or none

    def files(self) -> list[Path]:
        """What lies in it, and what was spilled."""
        folders = {self.path, self.spill}
        return [
            path for folder in folders if folder.is_dir() for path in folder.iterdir() if self.holds(path)
        ]

    def finished(self, attempt: int) -> bool:
        """The program of that attempt has come to its end by itself, and left word of it."""
        return (self.path / f"finished-{attempt}").is_file()

    def belong_to(self, process: ProcessId) -> None:
        """As long as this process lives, nobody else clears the folder: not even if this ckptd is killed."""
        path = self.path / _OWNER
        path.touch(mode=0o600)
        path.write_text(f"{process.pid} {process.started}")

    def complete(self, after: int = -1) -> list[Copy]:
        """Copies that are complete, of steps after ``after``: the oldest first."""
        found = []
        for path in self.files():
            try:
                with Segment(path) as segment:
                    dump, step = segment.index.dump, segment.index.facts.get("step")
            except (CkptdError, OSError, ValueError, KeyError, TypeError):
                continue  # not complete, or no segment
            if dump and isinstance(step, int) and step > after:
                found.append(Copy(path, dump, step))
        return sorted(found, key=lambda copy: copy.step)

    def clear(self, keep: Path | None) -> None:
        """Remove what the last process left, but for the copy that the next one resumes from."""
        for path in self.files():
            if path != keep:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        _remove(self.path)
        if self.spill.is_dir():
            _remove(self.spill)
        os.close(self._fd)


def _taken(path: Path) -> bool:
    """Another user has put something there, where all may: we do without."""
    try:
        return path.lstat().st_uid != os.geteuid()
    except OSError:
        return False


_OWNER = "process"
_KEPT_SECONDS = 120.0
"""What a killed ckptd has left in memory waits so long for the job's next one."""
_TRIES = 20
"""A file or folder may be removed by its last holder between our open and our lock: then it is made again."""
_PAUSE = 0.05
"""Seconds between tries for what somebody holds."""


def _lock_patiently(lock: Callable[[], int | None]) -> int | None:
    """Whoever sweeps holds a lock for a moment: that is no reason to give up."""
    for _ in range(_TRIES):
        fd = lock()
        if fd is not None:
            return fd
        time.sleep(_PAUSE)
    return None


def _lock(path: Path, flags: int) -> int | None:
    """Open and lock a file or folder; None if another has it. Raises CkptdError."""
    for _ in range(_TRIES):
        try:
            fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CkptdError(f"can't open {path}: {(error.strerror or '').lower()}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), path.lstat()):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            pass  # what we locked has no name any more
        os.close(fd)
    return None


def _sweep_sockets(folder: Path) -> None:
    """Remove what killed supervisors left: sockets whose lock nobody holds."""
    for path in folder.glob("*.lock"):
        fd = _lock(path, os.O_RDWR)
        if fd is not None:
            path.with_suffix(".sock").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            os.close(fd)


def _sweep_segments(shm: Path, own: str) -> None:
    """Give back the memory that killed supervisors of other jobs left taken."""
    for path in shm.glob(f"ckptd-{os.geteuid()}-*"):
        if path.name == own or path.is_symlink() or not path.is_dir() or _taken(path):
            continue
        fd = _lock(path, os.O_RDONLY | os.O_DIRECTORY)
        if fd is not None:
            if not _needed(path):
                _remove(path)
            os.close(fd)


def _needed(folder: Path) -> bool:
    """Whether a program still copies its dumps there, or the copies of one may yet be looked for."""
    try:
        pid, started = (folder / _OWNER).read_text().split()
        alive = ProcessId(int(pid), float(started)).alive()
    except (OSError, ValueError):
        return False  # no program was started there
    return alive or time.time() - folder.stat().st_mtime < _KEPT_SECONDS


def _remove(folder: Path) -> None:
    try:
        _empty(folder)
        folder.rmdir()
    except OSError:
        return  # a process that outlived its job still writes there; a later start sweeps again


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() or path.is_symlink():
            path.unlink(missing_ok=True)
