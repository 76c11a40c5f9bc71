"""Two processes on one store at once: a job that commits, and a person's verbs."""

from __future__ import annotations

import contextlib
import io
import json
import random
from pathlib import Path
from typing import Any

from ckptd.cli.main import main
from ckptd.errors import CkptdError
from ckptd.store import index
from ckptd.store.pins import read_mark
from torture.judge import Promises
from torture.kill import Scene, check_stores
from torture.work import JOB, Say, Setting, Work

GONE = (2, 10, 13)
"""What a verb may say of a checkpoint that the job has removed meanwhile."""


class Committing(Work):
    """The job: its owner pins nothing here, and copies nothing."""

    def go_on(self, rounds: int = 10**9) -> None:
        """Do one thing after another."""
        for _ in range(rounds):
            self.commit()
            if self._chance.random() < 0.7:
                self.retain()
            self._chance.choice([self._forget, self.prune, self.record, self.rewrite])()

    def _forget(self) -> None:
        with contextlib.suppress(
            CkptdError
        ):  # somebody else has removed what was to stay: it is said, nothing is done
            self.forget()


class Verbs:
    """A person beside it, who types one verb after another."""

    def __init__(self, setting: Setting, chance: random.Random, say: Say) -> None:
        self._setting, self._chance, self._say = setting, chance, say

    def go_on(self) -> None:
        """Do one thing after another, once there is a store."""
        verbs = [
            self.forget,
            self.prune,
            self.pin,
            self.unpin,
            self.remove,
            self.copy,
            self.look,
            self.compare,
        ]
        while True:
            if self._names():
                self._chance.choice(verbs)()

    def _names(self) -> list[str]:
        folder = self._setting.folder
        return [entry.path.name for entry in index.entries(folder)] if folder.checkpoints.is_dir() else []

    def _run(self, *words: str, store: Path | None = None, may: tuple[int, ...] = ()) -> Any:
        """One verb; what it printed as JSON, or None if it failed as it may."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([*words, "--json", "--store", str(store or self._setting.store)])
        if status and status not in may:
            raise AssertionError(f"{' '.join(words)}: status {status}: {err.getvalue()}")
        found = json.loads(out.getvalue()) if out.getvalue() else None
        return found if status == 0 else None

    def forget(self) -> None:
        """Keep two."""
        self._run("forget", "--keep-last", "2", may=(13,))

    def prune(self) -> None:
        """Free what is left."""
        self._run("prune")

    def pin(self) -> None:
        """Any one."""
        name = self._chance.choice(self._names())
        if self._run("pin", name[13:], may=GONE) is not None:
            self._say(f"pinned {name}")

    def unpin(self) -> None:
        """All but the last."""
        folder = self._setting.folder.checkpoints
        for name in [name for name in self._names() if read_mark(folder / name).pinned][:-1]:
            self._say(f"unpinned {name}")
            self._run("pin", "--remove", name[13:], may=GONE)

    def remove(self) -> None:
        """One that is not the newest."""
        for name in self._names()[:-1][:1]:
            self._run("rm", name[13:], may=(3, *GONE))

    def copy(self) -> None:
        """The latest, and of the copies the last stays."""
        other = self._setting.other
        for row in self._run("copy", "latest", "--to", str(other), may=GONE) or []:
            self._say(f"copied {Path(row['path']).name}")
        if (other / "jobs" / JOB).is_dir():
            self._run("forget", "--keep-last", "1", store=other)

    def look(self) -> None:
        """What changes nothing is never wrong, whatever goes on meanwhile."""
        words = self._chance.choice([("ls",), ("ps",), ("unlock",), ("verify",), ("verify", "--read-data")])
        self._run(*words)

    def compare(self) -> None:
        """The oldest and the newest."""
        names = self._names()
        self._run("diff", names[0][13:], names[-1][13:], may=GONE)
        self._run("show", names[0][13:], may=GONE)


def pair(folder: Path) -> Scene:
    """Both, and their stores."""
    setting = Setting(folder / "store", folder / "other", folder / "shm")
    setting.shm.mkdir()

    def commit(chance: random.Random, at: int, say: Say) -> None:
        Committing(setting, chance, say).go_on()

    def type_verbs(chance: random.Random, at: int, say: Say) -> None:
        Verbs(setting, chance, say).go_on()

    def check(promises: Promises, clean: bool) -> None:
        check_stores(setting, promises, clean, beside=True)

    return Scene(setting, [commit, type_verbs], check, changes=120, seconds=0.4)
