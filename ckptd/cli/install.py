"""``ckptd daemon install`` and ``uninstall``: the daemon as a unit of systemd, the system's or the user's own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

from ckptd.cli.output import printable
from ckptd.errors import CkptdError, UsageError
from ckptd.units import NAMES, filled

_MARK = "# Written by `ckptd daemon install`, which writes it anew. What you change belongs into a drop-in:"
_BOOTED = Path("/run/systemd/system")
_SECONDS = 600.0
"""A stop of the daemon saves every job first."""
_DAEMON, _JOBS = NAMES


@dataclass(frozen=True)
class Manager:
    """The system's systemd, or the user's own."""

    user: bool

    @property
    def folder(self) -> Path:
        """Where its units of this machine's administrator (or of the user) lie."""
        if not self.user:
            return Path("/etc/systemd/system")
        named = os.environ.get("XDG_CONFIG_HOME", "")
        base = Path(named) if named.startswith("/") else Path("~/.config").expanduser()
        return base / "systemd" / "user"

    @property
    def command(self) -> str:
        """As it is typed."""
        return "systemctl --user" if self.user else "systemctl"

    def ask(self, *words: str) -> tuple[int, str]:
        """(exit status, what it printed) of systemctl. Raises CkptdError."""
        try:
            done = subprocess.run(
                [*self.command.split(), *words], capture_output=True, text=True, check=False, timeout=_SECONDS,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise CkptdError("there is no systemctl here: ckptd run works without systemd") from error
        except subprocess.TimeoutExpired as error:
            raise CkptdError(f"{self.command} {' '.join(words)} takes longer than {_SECONDS:g} s") from error
        return done.returncode, (done.stdout + done.stderr).strip()

    def tell(self, *words: str) -> None:
        """Have systemctl do something; a CkptdError with its own words if it doesn't."""
        status, said = self.ask(*words)
        if status:
            why = " ".join(said.split()) or f"exit status {status}"
            raise CkptdError(f"{self.command} {' '.join(words)}: {why}")


_user = click.option("--user", is_flag=True, help="Your own systemd instead of the system's; needs no root.")


@click.command("install")
@_user
@click.option("--no-start", is_flag=True, help="Write the units, and neither enable nor start the daemon.")
def install(user: bool, no_start: bool) -> None:
    """Make the daemon a service of systemd, and start it.

    Writes ckptd.service and, for one job per unit, ckptd@.service, both for the ckptd that this is. Done again, it
    brings them up to date and leaves a running daemon alone.
    """
    manager = _manager(user)
    for name in NAMES:
        _say(_write(manager.folder / name, filled(name, user=user)))
    manager.tell("daemon-reload")
    if no_start:
        _say(f"not started: {manager.command} enable --now {_DAEMON} does that")
    elif manager.ask("is-active", _DAEMON)[0] == 0:
        manager.tell("enable", _DAEMON)
        _say(f"{_DAEMON} runs already: {manager.command} reload {_DAEMON} makes it this version; jobs run on")
    else:
        manager.tell("enable", "--now", _DAEMON)
        _say(f"{_DAEMON} is started, and will be at every {'login' if user else 'boot'}")
    if user and not _lingers():
        _say(
            "it ends when you log out, and all jobs with it: loginctl enable-linger lets it stay, and start at boot"
        )


@click.command("uninstall")
@_user
def uninstall(user: bool) -> None:
    """Stop the daemon, and remove its units. Its jobs are saved and stopped; checkpoints stay where they are."""
    manager = _manager(user)
    if (manager.folder / _DAEMON).exists():
        manager.tell("disable", "--now", _DAEMON)
        _say(f"{_DAEMON} is stopped")
    for name in NAMES:
        running = manager.ask("list-units", "--plain", "--no-legend", "ckptd@*.service")[1]
        if name == _JOBS and running:
            _say(f"{manager.folder / name} stays: {running.split()[0]} needs it")
        else:
            _say(_remove(manager.folder / name))
    manager.tell("daemon-reload")


def _manager(user: bool) -> Manager:
    if not _BOOTED.is_dir():
        raise UsageError(
            "systemd doesn't run this machine: start ckptd daemon by what does, or use ckptd run"
        )
    if not user and os.geteuid() != 0:
        raise UsageError("the system's units need root: sudo ckptd daemon install, or --user for your own")
    return Manager(user)


def _write(path: Path, text: str) -> str:
    """Write a unit, whole or not at all; returns what was done. Raises CkptdError."""
    text = (
        f"{_MARK}\n#     systemctl {'--user ' if path.parent.name == 'user' else ''}edit {path.name}\n{text}"
    )
    try:
        if path.exists() and not _ours(path):
            raise CkptdError(f"{path} is not of ckptd daemon install: remove it, or go on with it as it is")
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return f"{path} is as it should be"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise CkptdError(f"can't write {path}: {(error.strerror or str(error)).lower()}") from error
    return f"wrote {path}"


def _remove(path: Path) -> str:
    if not path.exists():
        return f"there is no {path}"
    if not _ours(path):
        return f"{path} stays: it is not of ckptd daemon install"
    try:
        path.unlink()
    except OSError as error:
        raise CkptdError(f"can't remove {path}: {(error.strerror or str(error)).lower()}") from error
    return f"removed {path}"


def _ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n") == _MARK


def _lingers() -> bool:
    """The user's systemd outlives the last session; True also where logind doesn't say."""
    try:
        done = subprocess.run(
            ["loginctl", "show-user", str(os.geteuid()), "--property=Linger", "--value"],
            capture_output=True, text=True, check=False, timeout=10, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.stdout.strip() != "no"


def _say(line: str) -> None:
    click.echo(printable(line))
