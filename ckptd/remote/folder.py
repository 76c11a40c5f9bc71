"""A remote in a folder: a share, another disk. Asks for no hard links, and for no rename over another file."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ckptd.errors import RemoteError
from ckptd.store import disk

PART = ".tmp-"
"""What the names of unfinished files begin with."""
ABANDONED = 3600.0
"""Seconds after which an unfinished file is nobody's: one takes as long as a piece takes to be written."""


class FolderBackend:
    """See ckptd.remote.backend.Backend."""

    exclusive = True

    def __init__(self, path: Path, url: str = "") -> None:
        self.path = path
        self.url = url or str(path)

    def read(self, name: str, limit: int) -> bytes | None:
        try:
            with open(disk.open_file(self.path / name), "rb") as file:
                return file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._error(name, error) from error

    def write(self, name: str, data: bytes) -> None:
        path = self.path / name
        try:
            part = self._part(path, data)
            try:
                self._replace(part, path)
            finally:
                part.unlink(missing_ok=True)
            _sync(path.parent)
        except OSError as error:
            raise self._error(name, error) from error

    def create(self, name: str, data: bytes) -> bool:
        path = self.path / name
        try:
            part = self._part(path, data)
            try:
                return self._claim(part, path, data)
            finally:
                part.unlink(missing_ok=True)
                _sync(path.parent)
        except OSError as error:
            raise self._error(name, error) from error

    def same(self, name: str, data: bytes) -> bool:
        return self.read(name, len(data)) == data

    def list(self, prefix: str) -> dict[str, int]:
        found = self._files(prefix).items()
        return {
            name: status.st_size for name, status in found if not PurePosixPath(name).name.startswith(PART)
        }

    def leftovers(self, prefix: str) -> dict[str, int]:
        return {
            name: status.st_size
            for name, status in self._files(prefix).items()
            if PurePosixPath(name).name.startswith(PART) and time.time() - status.st_mtime > ABANDONED
        }

    def _files(self, prefix: str) -> dict[str, os.stat_result]:
        found: dict[str, os.stat_result] = {}
        top = self.path / prefix

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise self._error(prefix, error) from error

        for place, _, names in os.walk(top, onerror=fail):
            for name in names:
                file = Path(place) / name
                with suppress(FileNotFoundError):
                    found[file.relative_to(self.path).as_posix()] = file.lstat()
        return found

    def remove(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._error(name, error) from error

    def _part(self, path: Path, data: bytes) -> Path:
        """A durable file beside ``path`` that holds the data."""
        os.makedirs(path.parent, disk.FOLDER_MODE, exist_ok=True)
        part = path.with_name(f"{PART}{os.getpid()}-{os.urandom(6).hex()}")
        fd = disk.create_file(part)
        try:
            try:
                disk.write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part

    def _replace(self, part: Path, path: Path) -> None:
        try:
            self._rename_over(part, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.EPERM, errno.ENOTSUP, errno.EACCES):
                raise
            # No rename over a file that is there. In between there is none: readers of what is replaced
            # (latest, the record) do without it.
            path.unlink(missing_ok=True)
            part.rename(path)

    def _claim(self, part: Path, path: Path, data: bytes) -> bool:
        try:
            self._link(part, path)  # whole from the first moment
        except FileExistsError:
            return False
        except OSError:
            # No hard links here: O_EXCL makes sure that only one gets it; a reader may see it half written.
            try:
                fd = disk.create_file(path)
            except FileExistsError:
                return False
            try:
                disk.write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
        return True

    def _rename_over(self, part: Path, path: Path) -> None:
        part.replace(path)

    def _link(self, part: Path, path: Path) -> None:
        os.link(part, path, follow_symlinks=False)

    def _error(self, name: str, error: OSError) -> RemoteError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return RemoteError(f"{self.path / name}: {disk.reason(error)}{'; make room there' if full else ''}")


def _sync(path: Path) -> None:
    """Make the names in a folder durable, where the file system knows what that is. Raises OSError."""
    try:
        disk.sync_folder(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
