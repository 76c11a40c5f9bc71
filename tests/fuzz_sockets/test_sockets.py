"""Peers that mean ill, for some seconds: scripts/fuzz-sockets goes on for longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz_sockets.agent import against_an_agent
from fuzz_sockets.hunt import Hunt
from fuzz_sockets.trouble import KINDS

SECONDS = 0.15
"""Of each kind of trouble, for one of both."""


@pytest.mark.nightly
def test_a_jobs_ckptd_and_the_daemon_mind_nobody_who_means_ill(tmp_path: Path, seeded: random.Random) -> None:
    hunt = Hunt(tmp_path)
    try:
        hunt.begin()
        mad = hunt.mad(seeded.randrange(1 << 30), 3.0)
        for kind in seeded.sample(list(KINDS), len(KINDS)):
            target = seeded.choice(hunt.targets)
            hunt.trouble(kind, seeded.randrange(1 << 30), SECONDS, [target])
        hunt.sane(mad)
        for target in hunt.targets:
            target.settle()
        hunt.finish(seeded.randrange(1 << 30))
    finally:
        hunt.close()


def test_a_program_trains_on_whatever_its_supervisor_says(tmp_path: Path, seeded: random.Random) -> None:
    assert against_an_agent(tmp_path, seeded) == []
