"""A trainer that lives in site-packages: with --instrument it resumes bit for bit, without it the way out is told."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from fuzz.warmers import Warmer

from ckptd.errors import UsageError
from ckptd.settings import parse_packages
from harness import Action, Line, Said, compare, leftovers, run_ckptd, run_plain
from harness.outcome import environment

PACKAGES = Path(__file__).resolve().parents[1] / "packages"
LINES = 58


@dataclass(frozen=True)
class Place:
    """A program, and the library that it uses."""

    script: Path
    packages: Path
    """The folder site-packages that fitkit is installed in."""

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.packages)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The script lies apart from the library, or that would be the user's own."""
    base = tmp_path_factory.mktemp("instrument")
    packages = base / "lib" / "site-packages"
    shutil.copytree(PACKAGES / "fitkit", packages / "fitkit", ignore=shutil.ignore_patterns("__pycache__"))
    script = base / "train.py"
    shutil.copy(PACKAGES / "train_with_fitkit.py", script)
    return Place(script, packages)


def test_a_trainer_in_site_packages_resumes_bit_for_bit(place, tmp_path, seeded):
    store, under = tmp_path / "store", tmp_path / "under"
    plain = run_plain([place.script], tmp_path / "plain", env=place.env)
    assert len(plain.stdout.splitlines()) == LINES, plain.stderr.decode()
    first, second = sorted(seeded.sample(range(2, LINES - 6), 2))
    began = run_ckptd(
        [place.script], under, store=store, env=place.env, options=["--instrument", "fitkit"],
        actions=[Action(Line("", first)), Action(Line("", second), to="ckptd")],
    )  # fmt: skip
    said = f"stopped at lines {first} and {second}\n{began.stderr.decode()}"
    assert began.status == 75, said
    assert len(began.processes) == 2, said

    other = run_ckptd([place.script], under, store=store, env=place.env, options=["--instrument", "other"])
    assert other.status == 14
    assert b"checkpoints that were taken with --instrument fitkit: leave out --instrument" in other.stderr
    assert other.processes == []

    rest = run_ckptd(
        [place.script], under, store=store, env=place.env
    )  # the job's record knows what is instrumented
    assert compare(plain, began.then(rest)) == [], said + rest.stderr.decode()
    assert leftovers(store) == []


def test_a_trainer_goes_on_from_any_of_its_loops(place, seeded):
    """The evaluation, the callbacks, the optimizers: stopped there, and in a resumed run once more."""
    warmer = Warmer()
    try:
        verdict = warmer.examine(
            {
                "text": place.script.read_text(), "most": 10, "seed": seeded.randrange(10**6), "twice": 0.2,
                "folder": str(place.packages), "instrument": "fitkit", "seconds": 60.0,
            }
        )  # fmt: skip
    finally:
        warmer.close()
    assert verdict["bad"] == ""
    assert verdict["failures"] == []
    assert verdict["refused"] == {}
    assert verdict["undumped"] == {}
    assert verdict["points"] > 500
    assert verdict["pairs"] >= 10


@pytest.mark.parametrize(
    "around", ["", "for fold in range(1):\n    "], ids=["alone", "in a loop of the script"]
)
def test_without_it_the_first_step_says_once_what_can_be_done(around, place, tmp_path):
    store = tmp_path / "store"
    script = tmp_path / "train.py"
    script.write_text(place.script.read_text().replace('print("fit gave"', f'{around}print("fit gave"'))
    under = run_ckptd(
        [script], tmp_path / "under", store=store, env=place.env,
        actions=[Action(Said("--instrument"), signal=signal.SIGKILL)], options=["--max-restarts", "0"],
    )  # fmt: skip
    assert under.status == 128 + signal.SIGKILL
    said = [line for line in under.stderr.decode().splitlines() if line.startswith("ckptd: ")]
    (sentence,) = [line for line in said if "--instrument" in line]
    assert sentence.startswith(
        f"ckptd: the program trains in a loop of fitkit ({place.packages}/fitkit/loops/"
    )
    assert sentence.endswith("unless it is started with ckptd run --instrument fitkit")
    (job,) = json.loads(ps(store, "--json"))
    assert job["note"] == sentence.removeprefix("ckptd: ")
    assert ps(store).splitlines()[-1] == f"{job['name']}: {job['note']}"


def ps(store: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ckptd", "ps", "--store", store, *options],
        env=environment(), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


def test_packages_are_named_as_python_names_them():
    assert parse_packages(["lightning", "a.b,c  d"]) == ("lightning", "a.b", "c", "d")
    assert parse_packages(["lightning", "lightning"]) == ("lightning",)


@pytest.mark.parametrize("name", ["light-ning", "./fitkit", "a..b", "torch.optim", "ckptd", "json"])
def test_what_can_not_be_instrumented_is_a_mistake_on_the_command_line(name):
    with pytest.raises(UsageError, match="--instrument"):
        parse_packages([name])
