"""Runs random programs, tells what failed, and shrinks it.

scripts/fuzz [--minutes M | --pairs N] [--seed S]
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fuzz.programs import program
from fuzz.shrink import shrink
from fuzz.warmers import Job, Verdict, Warmers

MOST_SAID = 40
"""Failures of one kind that are told at once."""


@dataclass
class Tally:
    """What came of many programs."""

    programs: int = 0
    pairs: int = 0
    points: int = 0
    bad: int = 0
    avoided: Counter[str] = field(default_factory=Counter)
    undumped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, verdict: Verdict) -> None:
        """Count one program's verdict."""
        self.programs += 1
        self.pairs += verdict["pairs"]
        self.points += verdict["points"]
        self.bad += bool(verdict["bad"])
        for name in ("avoided", "undumped", "refused"):
            for sentence, number in verdict[name].items():
                getattr(self, name)[plain_sentence(sentence)] += number
        if verdict["failures"]:
            self.failed.append(verdict)

    def lines(self) -> Iterator[str]:
        """For people."""
        seconds = time.monotonic() - self.began
        yield (
            f"{self.programs} programs, {self.pairs} (program, stop) pairs in {seconds:.0f} s "
            f"({self.pairs / seconds:.1f} a second), {len(self.failed)} programs failed, {self.bad} were of no use"
        )
        yield f"of {self.points} possible safe points {self.avoided.total()} were avoided"
        for name in ("avoided", "undumped", "refused"):
            for sentence, number in getattr(self, name).most_common():
                yield f"{number:7d} {name}: {sentence}"


def plain_sentence(sentence: str) -> str:
    """Without names and numbers of one program."""
    sentence = re.sub(r"\S*program\.py(:\d+)?", "LINE", sentence)
    return re.sub(r"\b([a-z]{1,3})\d+\b", r"\1N", sentence)


def jobs(seed: int, most: int = 40, twice: float = 0.3) -> Iterator[Job]:
    """Endlessly many programs."""
    while True:
        yield {"text": program(seed), "most": most, "seed": seed, "twice": twice}
        seed += 1


def until(found: Iterator[Job], tally: Tally, seconds: float, pairs: int) -> Iterator[Job]:
    """Jobs as long as there is time and pairs are wanted."""
    for job in found:
        if time.monotonic() - tally.began > seconds or tally.pairs >= pairs:
            return
        yield job


def small(verdict: Verdict, warmers: Warmers) -> tuple[str, dict[str, Any]]:
    """A small program that fails in the same way, and how it fails."""
    job, failure = verdict["job"], verdict["failures"][0]
    last = failure

    def fails(text: str) -> bool:
        nonlocal last
        found = warmers.examine(
            {"text": text, "most": 15, "seed": 1, "twice": 0, "again": failure.get("again")}
        )["failures"]
        alike = [each for each in found if each["kind"] == failure["kind"]]
        if alike:
            last = alike[0]
        return bool(alike)

    text = shrink(job["text"], fails)
    fails(text)
    return text, last


def tell(text: str, failure: dict[str, Any]) -> str:
    """A failure as a program with the stop number."""
    again = f" and again at its safe point {failure['again']}" if "again" in failure else ""
    return (
        f"# {failure['kind']}: stopped at safe point {failure['stop']} ({failure['where']}){again}\n"
        f"# {failure['detail']}\n# {failure.get('stderr', '').strip()[-300:]!r}\n{text}"
    )


def main() -> int:
    """Exit status 1 if a program failed."""
    parser = argparse.ArgumentParser(description="Random programs, each stopped at every safe point.")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1000000)
    parser.add_argument("--shrink", type=int, default=3, help="failures to shrink (default 3)")
    args = parser.parse_args()
    seconds = args.minutes * 60 if args.minutes else (1e9 if args.pairs else 60.0)
    print(f"seed {args.seed}", flush=True)
    tally = Tally()
    said: Counter[str] = Counter()
    with Warmers() as warmers:
        for verdict in warmers.examine_all(until(jobs(args.seed), tally, seconds, args.pairs or 10**9)):
            tally.add(verdict)
            for failure in verdict["failures"][:1]:
                said[failure["kind"]] += 1
                if said[failure["kind"]] <= MOST_SAID:
                    detail = f"{failure['kind']} at {failure['stop']}: {failure['detail'][:300]}"
                    print(f"seed {verdict['job']['seed']}: {detail}", flush=True)
        print("\n".join(tally.lines()), flush=True)
        for verdict in tally.failed[: args.shrink]:
            print(f"---- seed {verdict['job']['seed']}", flush=True)
            print(tell(*small(verdict, warmers)), flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
