"""Keys for the daemon's TCP socket: who it is, and who may talk to it. CURVE, as ZeroMQ has it.

The daemon's folder holds its own pair and the public keys of clients; removing one of these shuts that client out. A
client's folder holds the client's pair and the daemon's public key. Both are of mode 0700, secrets of 0600.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import zmq

from ckptd.daemon.places import private_folder
from ckptd.errors import CkptdError, UsageError
from ckptd.store import disk

DAEMON, CLIENT = "daemon", "client"
CLIENTS = "clients"
PUBLIC, SECRET = ".public", ".secret"
KEY = re.compile(rb"[!-~]{40}")
"""A key as text (Z85)."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Pair:
    """A public key and its secret."""

    public: bytes
    secret: bytes


def make_daemon_keys(folder: Path) -> bool:
    """Make the daemon's pair; False if it is there already. Raises CkptdError."""
    private_folder(folder)
    if (folder / f"{DAEMON}{SECRET}").exists():
        return False
    _write_pair(folder, DAEMON)
    return True


def make_client_keys(folder: Path, name: str) -> Path:
    """Make a client's folder, which is to be brought to where it is used, and let it in. Raises CkptdError."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a client's name: letters, digits, '.', '_' and '-'")
    known = _clients(folder)
    made = private_folder(folder) / f"for-{name}"
    if (known / f"{name}{PUBLIC}").exists() or made.exists():
        raise UsageError(
            f"there is a client {name} in {folder} already: choose another name, or remove its files"
        )
    private_folder(made)
    pair = _write_pair(made, CLIENT)
    _write(made / f"{DAEMON}{PUBLIC}", _read(folder / f"{DAEMON}{PUBLIC}"))
    _write(known / f"{name}{PUBLIC}", pair.public)
    return made


def load_pair(folder: Path, whose: str) -> Pair:
    """The pair of DAEMON or CLIENT. Raises UsageError: it isn't there, or others can read it."""
    secret = folder / f"{whose}{SECRET}"
    pair = Pair(_read(folder / f"{whose}{PUBLIC}"), _read(secret))
    if secret.stat().st_mode & 0o077:
        raise UsageError(f"{secret} can be read by others: chmod 600 it, or make new keys")
    return pair


def load_daemon_key(folder: Path) -> bytes:
    """The public key of the daemon that a client may talk to. Raises UsageError."""
    return _read(folder / f"{DAEMON}{PUBLIC}")


def is_let_in(folder: Path, public: bytes) -> bool:
    """Whether there is a client with this key."""
    try:
        return any(_read(path) == public for path in _clients(folder).glob(f"*{PUBLIC}"))
    except CkptdError:
        return False  # a file that is no key lets nobody in


def _clients(folder: Path) -> Path:
    return private_folder(private_folder(folder) / CLIENTS)


def _write_pair(folder: Path, whose: str) -> Pair:
    pair = Pair(*zmq.curve_keypair())
    _write(folder / f"{whose}{PUBLIC}", pair.public)
    _write(folder / f"{whose}{SECRET}", pair.secret)
    return pair


def _write(path: Path, key: bytes) -> None:
    try:
        disk.replace_file(path, key + b"\n")
    except OSError as error:
        raise CkptdError(f"can't write {path}: {disk.reason(error)}") from error


def _read(path: Path) -> bytes:
    try:
        key = disk.read_file(path, 100).strip()
    except OSError as error:
        raise UsageError(
            f"{path}: {disk.reason(error)}: ckptd daemon keys FOLDER makes keys, with --client NAME those of a client"
        ) from error
    if not KEY.fullmatch(key):
        raise UsageError(f"{path} holds no key: ckptd daemon keys makes them")
    return bytes(key)
