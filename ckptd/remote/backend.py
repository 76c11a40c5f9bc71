"""What a remote must be able to do, and the ones there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ckptd.errors import RemoteError, UsageError

NONE = "none"
"""In the place of a URL: no remote any more."""


class Backend(Protocol):
    """Objects by name; names are plain words with slashes between them.

    All methods raise RemoteError. An object that a killed writer has begun is not there, or shorter than
    it should be: a reader knows how long it should be, and what is in it.
    """

    url: str
    """As a person gave it."""
    exclusive: bool
    """``create`` is one step: of two that try at once only one succeeds."""

    def read(self, name: str, limit: int) -> bytes | None:
        """All of an object, at most ``limit`` bytes and one more; None if it isn't there."""

    def write(self, name: str, data: bytes) -> None:
        """Make an object, or put another in its place; durable on return."""

    def create(self, name: str, data: bytes) -> bool:
        """Make an object that isn't there; False if it is."""

    def same(self, name: str, data: bytes) -> bool:
        """Whether an object has this content, as the remote itself has it now."""

    def list(self, prefix: str) -> dict[str, int]:
        """Names and lengths of all objects below a folder."""

    def leftovers(self, prefix: str) -> dict[str, int]:
        """What killed writers have left below a folder and ``list`` doesn't show, with lengths."""

    def remove(self, name: str) -> None:
        """Remove an object; one that isn't there is no error."""


def open_backend(url: str) -> Backend:
    """The remote that a URL names. Raises UsageError, RemoteError (a package is missing)."""
    check_url(url)
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        from ckptd.remote.folder import FolderBackend

        path = unquote(parts.path) if parts.scheme else url
        return FolderBackend(Path(os.path.abspath(Path(path).expanduser())), url)
    from ckptd.remote.bucket import open_bucket

    return open_bucket(url)


def check_url(url: str) -> None:
    """Raise UsageError unless it can be the URL of a remote; it is kept in records, so without a password."""
    parts = urlsplit(url)
    if parts.password or (parts.username and parts.scheme in ("s3", "s3a", "gs", "gcs", "az", "abfs")):
        raise UsageError(
            "the remote's URL has credentials in it, and would be kept with them: give them as the "
            "provider's own variables or files (AWS_ACCESS_KEY_ID, ~/.aws/credentials)"
        )
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url!r} names a host: write file:///folder, with three slashes")
    if not url or (not parts.path and not parts.netloc):
        raise UsageError(f"{url!r} is no remote: write s3://bucket/folder or file:///mnt/nfs/folder")
    if not parts.scheme and not url.startswith(("/", "~", ".")):
        raise UsageError(
            f"{url!r} is no remote: write s3://bucket/folder, file:///mnt/nfs/folder or /mnt/nfs/folder"
        )


def absent(url: str, name: str) -> RemoteError:
    """What is said of an object that should be there."""
    return RemoteError(f"{url} has lost {name}", again=False)
