"""A remote by any URL that fsspec knows: s3://, gs://, memory:// and so on."""

from __future__ import annotations

import errno
import hashlib
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ckptd.errors import RemoteError

_MD5 = re.compile(r'"?(?P<hex>[0-9a-f]{32})"?')
_CREATING = frozenset({"s3", "s3a", "memory"})
"""Protocols that make an object only if it isn't there, in one step."""
CONNECT_SECONDS, READ_SECONDS = 10, 60
Result = TypeVar("Result")


class BucketBackend:
    """See ckptd.remote.backend.Backend. ``files``: an fsspec file system; ``root``: a path in it."""

    def __init__(self, files: Any, root: str, url: str, protocol: str) -> None:
        self.url = url
        self.exclusive = protocol in _CREATING
        self._files = files
        self._root = root.rstrip("/")
        self._protocol = protocol

    def read(self, name: str, limit: int) -> bytes | None:
        def get() -> bytes | None:
            try:
                data = self._files.cat_file(self._path(name), start=0, end=limit + 1)
            except FileNotFoundError:
                return None
            return bytes(data)

        return self._ask(name, get)

    def write(self, name: str, data: bytes) -> None:
        self._ask(name, lambda: self._files.pipe_file(self._path(name), data))

    def create(self, name: str, data: bytes) -> bool:
        def put() -> bool:
            try:
                if self._protocol == "memory":
                    with _MEMORY:  # one process has it, and its threads take turns
                        self._files.pipe_file(self._path(name), data, mode="create")
                else:
                    self._files.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
            return True

        return self._ask(name, put)

    def same(self, name: str, data: bytes) -> bool:
        def compare() -> bool:
            try:
                info = self._files.info(self._path(name))
            except FileNotFoundError:
                return False
            if info.get("size") != len(data):
                return False
            tag = _MD5.fullmatch(str(info.get("ETag", "")))
            # Not an MD5 (another kind of encryption), or another server's idea of a tag: the content decides.
            if tag is not None and tag["hex"] == hashlib.md5(data, usedforsecurity=False).hexdigest():
                return True
            return bytes(self._files.cat_file(self._path(name))) == data

        return self._ask(name, compare)

    def list(self, prefix: str) -> dict[str, int]:
        def find() -> dict[str, int]:
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._path(prefix), detail=True)
            except FileNotFoundError:
                return {}
            root = self._root.strip("/")
            cut = len(root) + 1 if root else 0
            return {path.strip("/")[cut:]: int(info["size"]) for path, info in found.items()}

        return self._ask(prefix, find)

    def leftovers(self, prefix: str) -> dict[str, int]:
        return {}  # objects are there as a whole or not at all

    def remove(self, name: str) -> None:
        def take() -> None:
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return  # somebody was faster

        self._ask(name, take)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _ask(self, name: str, work: Callable[[], Result]) -> Result:
        """Do it, and tell whatever goes wrong in one of our own words."""
        try:
            return work()
        except Exception as error:  # each library behind fsspec has its own
            raise RemoteError(f"{self.url}: {name}: {_words(error)}", again=not _final(error)) from error


_MEMORY = threading.Lock()


def open_bucket(url: str) -> BucketBackend:
    """Raises RemoteError: fsspec, or the package for this kind of URL, is missing."""
    files, root = open_files(url)
    return BucketBackend(files, root, url, _protocol(url))


def open_files(url: str) -> tuple[Any, str]:
    """(the fsspec file system that a URL names, the path in it). Raises RemoteError."""
    try:
        import fsspec
    except ImportError:
        raise RemoteError(
            f"{url} needs the packages fsspec and s3fs: pip install 'ckptd[remote]'", again=False
        ) from None
    s3 = _protocol(url) in ("s3", "s3a")
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if s3:
        # Tries are counted and spaced by ckptd.remote.patience; two layers of them would multiply.
        options["config_kwargs"] = {
            "retries": {"max_attempts": 0}, "connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS,
            # What was sent and read is compared here, for all remotes alike; not each S3 server knows these.
            "request_checksum_calculation": "when_required", "response_checksum_validation": "when_required",
        }  # fmt: skip
    try:
        files, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise RemoteError(
            f"{url} needs another package ({error}); for S3: pip install 'ckptd[remote]'", again=False
        ) from error
    except Exception as error:
        raise RemoteError(f"{url} can't be used: {_words(error)}", again=False) from error
    if s3:
        files.retries = 1
    return files, str(root)


def _protocol(url: str) -> str:
    return url.partition("://")[0]


def _final(error: BaseException) -> bool:
    """It will be the same the next time."""
    return isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError"


def _words(error: BaseException) -> str:
    """An error as the tail of a sentence, on one line."""
    if isinstance(error, PermissionError):
        return f"permission denied ({' '.join(str(error).split())[:200]})"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "there is no room left"
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
