"""The verdict: what people paste into a pull request, and the same for programs."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from ckptd import __version__
from ckptd.errors import DiffersError, NotDeterministicError, PartlyDoneError, RefusedError
from ckptd.prove.differences import Change, Parting, Partings
from ckptd.prove.outputs import STDOUT, Unlike
from ckptd.prove.proof import Proof

STEPS_SHOWN = 8
NAMES_SHOWN = 3
"""Of a step, where it has more."""


def judge(proof: Proof) -> tuple[str, int]:
    """One word or two for what was found, and the exit status that goes with it."""
    if not proof.deterministic:
        return "not deterministic", NotDeterministicError.status
    if proof.refused:
        return "refused", RefusedError.status
    if not proof.complete and not proof.partings.first:
        return "incomplete", PartlyDoneError.status
    if not proof.same:
        return "differs", DiffersError.status
    return "identical", 0


def headline(proof: Proof) -> str:
    """The verdict in one sentence."""
    word, _ = judge(proof)
    steps = f"{_count(len(proof.plain.steps), 'training step')}"
    if word == "identical":
        return f"{_count(proof.wanted, 'interruption')}, {steps}, nothing differs."
    if word == "refused":
        said = proof.said[-1] if proof.said else "ckptd would not resume"
        return f"{said.partition('; start over with --fresh')[0]}."  # here that is no way out
    if word == "incomplete":
        done = sum(stop.resumed for stop in proof.stops)
        why = f": {proof.said[-1]}" if proof.said else ""
        return f"{done} of {_count(proof.wanted, 'interruption')} took place{why}."
    if word == "not deterministic":
        return f"two plain runs, nobody stopping them, differ{_at(proof.chance)}. {_remedy(proof)}"
    if proof.partings.first:
        return f"{_after_stop(proof)}{_parted(proof.partings.first[0])}."
    if proof.harm:
        return f"under ckptd, without any interruption, {_unlike(proof.harm[0])}."
    if proof.unlike:
        return f"training is the same, but {_unlike(proof.unlike[0])}."
    return (
        f"training is the same, but the exit status is {proof.status[1]}, in the plain run {proof.status[0]}."
    )


def markdown(proof: Proof) -> str:
    """The whole verdict: a headline, where it differs, and what was compared."""
    lines = [f"**ckptd prove: {judge(proof)[0]}.** {_capital(headline(proof))}", ""]
    partings = proof.partings if proof.deterministic else proof.chance
    if partings.first:
        lines += [*_table_of_partings(partings, proof), ""]
    others = [_unlike(each) for each in (*proof.harm, *proof.unlike)]
    if others and partings.first:
        lines += [*(f"- {_capital(each)}" for each in others[:STEPS_SHOWN]), ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in _facts(proof))]
    return "".join(_printable(line) + "\n" for line in lines)


def as_map(proof: Proof) -> dict[str, Any]:
    """Everything, for --json."""
    word, status = judge(proof)
    return {
        "verdict": word,
        "status": status,
        "sentence": headline(proof),
        "command": proof.argv,
        "seed": proof.seed,
        "stops": [asdict(stop) for stop in proof.stops],
        "stops_wanted": proof.wanted,
        "steps": len(proof.plain.steps),
        "events": proof.plain.events,
        "compared": dict(proof.plain.kinds),
        "about": proof.plain.about,
        "exit_status": {"plain": proof.status[0], "stopped": proof.status[1]} if proof.deterministic else None,
        "runs": [{"name": run.name, "status": run.status, "seconds": round(run.seconds, 3)} for run in proof.runs],
        "differences": [asdict(each) for each in proof.partings.first],
        "differing_events": proof.partings.count,
        "outputs": [asdict(each) for each in proof.unlike],
        "harm": [asdict(each) for each in proof.harm],
        "plain_differences": [asdict(each) for each in proof.chance.first],
        "left_out": {
            "names": sorted(proof.chance.names) if proof.deterministic else [],
            "files": sorted({*proof.left_out.names, *proof.left_out.patterns}),
            "lines": {name: sorted(lines) for name, lines in proof.left_out.lines.items()},
            "clocks": dict(proof.left_out.clocks),
        },
        "remedy": {**asdict(proof.remedy), "texts": proof.remedy.texts} if proof.remedy else None,
        "copied": asdict(proof.copied),
        "said": proof.said,
        "kept": str(proof.kept) if proof.kept else None,
        "markdown": markdown(proof),
    }  # fmt: skip


# ---- where it differs ---------------------------------------------------------------------------


def _parted(parting: Parting) -> str:
    names = _names(parting.changes)
    if parting.where == "resume":
        return f"{names} did not come back as saved at step {parting.step}"
    if parting.where == "length":
        change = parting.changes[0]
        return f"the runs have not as many steps (plain: {change.plain}, stopped: {change.other})"
    first = parting.changes[0]
    return f"step {parting.step} is the first that differs: in {names} ({_values(first)})"


def _after_stop(proof: Proof) -> str:
    """Which interruption it must have been."""
    at = proof.partings.first[0].step
    before = [str(stop.saved) for stop in proof.stops if stop.saved is not None and stop.saved <= at]
    stops = "the stop at step" if len(before) == 1 else "the stops at steps"
    return f"after {stops} {', '.join(before)}, " if before else "before any stop, "


def _values(change: Change) -> str:
    """What it is, and what it should be; a norm can be the same where the bytes are not."""
    if change.plain == change.other:
        return f"other bytes: {change.other}" if change.other else "another state"
    return f"{change.other} and not {change.plain}"


def _at(partings: Partings) -> str:
    first = partings.first[0]
    change = first.changes[0]
    values = f" ({change.plain} and {change.other})" if change.plain != change.other else ""
    return f" from step {first.step} on: in {_names(first.changes)}{values}"


def _remedy(proof: Proof) -> str:
    remedy = proof.remedy
    if remedy is None or not remedy.needed:
        return (
            "None of the usual switches makes them the same, nor do all together: the program may depend on the "
            "clock, a process id, threads of its own or a service."
        )
    texts = " and ".join(remedy.texts)
    span = f" (its first {_count(remedy.events, 'event')} were tried)" if remedy.events else ""
    return f"With {texts} they are the same{span}."


def _names(changes: list[Change]) -> str:
    known = {change.kind for change in changes}
    if "loss" in known or "parameter" in known:  # then a hundred variables tell nothing new
        changes = [change for change in changes if change.kind not in ("variable", "rng")]
    shown = ", ".join(f"`{change.name}`" for change in changes[:NAMES_SHOWN])
    more = len(changes) - NAMES_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


def _table_of_partings(partings: Partings, proof: Proof) -> list[str]:
    ours, theirs = ("plain", "stopped") if proof.deterministic else ("one run", "the other")
    lines = [f"| at | what differs | {ours} | {theirs} |", "|---|---|---|---|"]
    rows = {(parting.where, parting.step): parting for parting in reversed(partings.first)}
    shown = list(reversed(rows.values()))[: STEPS_SHOWN if proof.deterministic else 2]
    for parting in shown:
        first = parting.changes[0]
        where = f"resume at {parting.step}" if parting.where == "resume" else f"step {parting.step}"
        lines.append(f"| {where} | {_names(parting.changes)} | {_cell(first.plain)} | {_cell(first.other)} |")
    more = partings.count - partings.first.index(shown[-1]) - 1
    if more:
        lines.append(f"| | and at {_count(more, 'event')} more | | |")
    return lines


def _unlike(each: Unlike) -> str:
    name = each.name if each.name == STDOUT else f"`{each.name}`"
    if each.where:
        return f"{name} differs in {each.where} (`{each.plain}` and not `{each.other}`)"
    return f"{name} is {each.other} (in the plain run: {each.plain})"


# ---- what was compared --------------------------------------------------------------------------


def _facts(proof: Proof) -> list[tuple[str, str]]:
    kinds = proof.plain.kinds
    compared = ", ".join(
        _count(kinds[kind], text)
        for kind, text in (
            ("parameter", "parameter"), ("buffer", "buffer"), ("optimizer", "optimizer value"),
            ("rng", "random generator"), ("variable", "variable"),
        )
        if kinds[kind]
    )  # fmt: skip
    facts = [("command", f"`{shlex.join(proof.argv)}`")]
    if proof.deterministic:
        facts += [("stopped", _stops(proof)), ("without ckptd", _bare(proof))]
    facts += [("compared", f"at each of {_count(len(proof.plain.steps), 'training step')}: loss, {compared}")]
    if proof.deterministic:
        files = len(proof.runs[-1].output.written)
        facts.append(
            ("and", f"stdout and {_count(files, 'file')} byte by byte, exit status {proof.status[0]}")
        )
    facts += [("left out", text) for text in _left_out(proof)]
    facts += [("the copy", text) for text in _copied(proof)]
    about = proof.plain.about
    versions = f"ckptd {__version__}, Python {about.get('python')}, torch {about.get('torch')}"
    facts.append(("with", f"{versions}, {about.get('device')}, {about.get('threads')} threads"))
    return facts


def _stops(proof: Proof) -> str:
    words = []
    for stop in proof.stops:
        if stop.resumed:
            words.append(str(stop.saved))
        elif stop.saved is None:
            words.append(f"{stop.asked} (not saved)")
        else:
            words.append(f"{stop.saved} (not resumed)")
    return f"after steps {', '.join(words) or 'none'}, drawn with --seed {proof.seed}"


def _bare(proof: Proof) -> str:
    return "not the same output" if proof.harm else "the same output"


def _left_out(proof: Proof) -> list[str]:
    """What plain runs differ in anyway."""
    if not proof.deterministic:
        return []
    found = []
    if proof.chance.names:
        names = sorted(proof.chance.names)
        more = len(names) - NAMES_SHOWN
        shown = ", ".join(f"`{name}`" for name in names[:NAMES_SHOWN])
        found.append(shown + (f" and {more} more" if more > 0 else "") + ": two plain runs differ there")
    for name, lines in proof.left_out.lines.items():
        found.append(f"{_count(len(lines), 'line')} of {name}: two plain runs differ there")
    names = sorted({*proof.left_out.names, *proof.left_out.patterns})
    found += [f"`{name}`: two plain runs differ there" for name in names]
    for name, number in proof.left_out.clocks.items():
        found.append(f"{_count(number, 'line')} of {name}: differ in nothing but times")
    return found


def _copied(proof: Proof) -> list[str]:
    copied = proof.copied
    found = []
    if copied.given:
        found.append(f"{_list(copied.given)} linked, not copied, as --link asked for")
    if copied.linked:
        found.append("large files that are not written were copied once")
    if copied.outside:
        found.append(f"{_list(copied.outside)} leads out of the folder: what is written there isn't compared")
    if proof.kept is not None:
        found.append(f"all runs are kept in `{proof.kept}`")
    return found


def _list(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _cell(text: str) -> str:
    """Text as a cell of a markdown table may have it."""
    return _printable(text).replace("|", "\\|")


def _printable(text: str) -> str:
    """What a program printed may hold anything; a terminal must not obey it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
