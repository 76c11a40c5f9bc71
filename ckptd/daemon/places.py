"""Folders that live no longer than a supervisor: its socket's, and that of segments in shared memory."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from ckptd.errors import CkptdError, LockedError

IPC_PATH_MAX = 107
"""Bytes of a unix socket's path (sockaddr_un less its final zero)."""


def private_folder(path: Path) -> Path:
    """Make a folder of mode 0700, or take the one that is there if it is ours alone.

    Raises:
        CkptdError: it belongs to another user, or others may write there.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass  # looked at below: it may be anybody's
    except OSError as error:
        raise CkptdError(f"can't make the folder {path}: {(error.strerror or '').lower()}") from error
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise CkptdError(f"{path} is not a folder of yours: remove it, or set XDG_RUNTIME_DIR to one that is")
    if status.st_mode & 0o022:
        raise CkptdError(f"{path} can be written by others: remove it, or set XDG_RUNTIME_DIR to another")
    if status.st_mode & 0o077 or (status.st_mode & 0o700) != 0o700:
        path.chmod(0o700)
    return path


def runtime_folder() -> Path:
    """$XDG_RUNTIME_DIR/ckptd, or /tmp/ckptd-UID where there is none of ours. Raises CkptdError."""
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

    def __init__(self, key: str) -> None:
        folder = runtime_folder()
        self._made: Path | None = None
        if len(os.fsencode(folder / f"{key}.sock")) > IPC_PATH_MAX:
            folder = self._made = Path(tempfile.mkdtemp(prefix="ckptd-", dir="/tmp"))
        self.socket = folder / f"{key}.sock"
        self._lock = folder / f"{key}.lock"
        self._fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise LockedError(f"another ckptd listens on {self.socket}: wait until it ends") from error
        # Another may have removed the file between our open and our lock: then ours guards nothing.
        if not self._lock.exists() or self._lock.stat().st_ino != os.fstat(self._fd).st_ino:
            os.close(self._fd)
            raise LockedError(f"another ckptd is just giving up {self.socket}: try again")

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


class SegmentFolder:
    """Where the agent makes its segments. What lies there at the start is a dead supervisor's."""

    def __init__(self, key: str, fallback: Path, shm: Path = Path("/dev/shm")) -> None:
        """``fallback`` is used where there is no shared memory to write to. Raises CkptdError."""
        name = f"ckptd-{os.geteuid()}-{key}"
        in_memory = shm.is_dir() and os.access(shm, os.W_OK | os.X_OK)
        self.path = private_folder(shm / name if in_memory else fallback)
        self.sweep()

    def sweep(self) -> None:
        """Remove all segments."""
        for path in self.path.iterdir():
            if path.is_file() or path.is_symlink():
                path.unlink(missing_ok=True)

    def holds(self, path: Path) -> bool:
        """Whether a path that an agent named is a file right in this folder, and no link."""
        return path.parent == self.path and path.is_file() and not path.is_symlink()

    def close(self) -> None:
        """Remove the folder. Something that is not a segment and can't be removed stays."""
        try:
            self.sweep()
            self.path.rmdir()
        except OSError:
            return  # a process that outlived its job still writes there; the next start sweeps again
