"""Which checkpoints stay, and that the rest goes without harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from store_fixtures.making import make_checkpoint, pack_of

from ckptd.cli.keep import policy_of
from ckptd.errors import DamagedError, UsageError
from ckptd.store import index, removal
from ckptd.store.draft import Way
from ckptd.store.hold import alone, hold
from ckptd.store.index import Entry, in_order
from ckptd.store.known import Known
from ckptd.store.pins import read_mark, write_mark
from ckptd.store.reader import OpenCheckpoint, list_checkpoints
from ckptd.store.retention import Best, Mark, Policy, decide
from ckptd.store.seen import Seen
from ckptd.store.verify import read_manifest, verify_checkpoint

HOUR = 3600.0


def entry(step: int, hours: float | None = None, loss: float | str = 1.0, **changes: object) -> Entry:
    """A checkpoint taken ``hours`` after the first."""
    path = Path(f"/store/{step:012d}-{abs(hash((step, str(changes)))) % 2**32:08x}")
    created = 1_760_000_400.0 + HOUR * (step if hours is None else hours)
    return Entry(path, created, figures={"loss": loss}, **changes)  # type: ignore[arg-type]


def kept(entries: list[Entry], policy: Policy, marks: dict[str, Mark] | None = None) -> list[int]:
    return [verdict.entry.step for verdict in decide(in_order(entries), policy, marks) if verdict.keep]


HOURLY = [entry(step) for step in range(10)]


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        (Policy(last=3), [7, 8, 9]),
        (Policy(last=99), list(range(10))),
        (Policy(every_steps=4), [0, 4, 8, 9]),
        (Policy(every_steps=4, last=2), [0, 4, 8, 9]),
        (Policy(hourly=2), [8, 9]),
        (Policy(within=2 * HOUR), [7, 8, 9]),
        (Policy(tags=("x",)), [9]),
        (Policy(), [9]),
    ],
)
def test_each_rule(policy, steps):
    assert kept(HOURLY, policy) == steps


def test_hourly_keeps_the_newest_of_each_hour():
    entries = [entry(step, step / 4) for step in range(12)]
    assert kept(entries, Policy(hourly=3)) == [3, 7, 11]


def test_what_every_keeps_is_kept_for_good():
    """Whatever follows: what one look has kept, no later look removes."""
    entries: list[Entry] = []
    policy = Policy(last=1, every_steps=10)
    for step in range(3, 100, 3):
        entries = [v.entry for v in decide([*entries, entry(step)], policy) if v.keep]
    assert [each.step for each in entries] == [3, 12, 21, 30, 42, 51, 60, 72, 81, 90, 99]


def test_best_is_lowest_or_highest_and_takes_only_numbers():
    losses = [3.0, 0.5, "NaN", 0.7, 9.0]
    entries = [entry(step, loss=value) for step, value in enumerate(losses)]  # type: ignore[arg-type]
    assert kept(entries, Policy(best=(Best(2),))) == [1, 3, 4]
    assert kept(entries, Policy(best=(Best(1, "loss", largest=True),))) == [4]
    assert kept(entries, Policy(best=(Best(1, "accuracy"),))) == [4]


def test_pins_and_tags():
    marks = {HOURLY[2].id: Mark(pinned=True), HOURLY[5].id: Mark(tags=("paper", "x"))}
    assert kept(HOURLY, Policy(last=1), marks) == [2, 9]
    assert kept(HOURLY, Policy(last=1, tags=("x",)), marks) == [2, 5, 9]


def test_damaged_ones_go_once_enough_good_ones_are_newer():
    entries = [entry(0), entry(1, error="damaged"), entry(2), entry(3), entry(4, error="damaged")]
    assert kept(entries, Policy(last=2)) == [2, 3, 4]
    assert kept(entries, Policy(last=3)) == [0, 1, 2, 3, 4]
    newer = [entry(0, error="update ckptd", newer=True), entry(1), entry(2)]
    assert kept(newer, Policy(last=1)) == [0, 2]


def test_what_from_went_back_behind_stays_until_the_job_has_come_past_it():
    before = [entry(step, hours) for hours, step in enumerate((100, 200, 300, 400))]
    branch = {"branch": 1, "branch_step": 200}
    near = [*before, entry(250, 10, **branch)]
    assert kept(near, Policy(last=2)) == [200, 300, 400, 250]
    past = [*near, entry(350, 11, **branch)]
    assert kept(past, Policy(last=2)) == [400, 250, 350]
    verdicts = {v.entry.step: v for v in decide(in_order(past), Policy(last=2))}
    assert verdicts[300].gone == "left behind by --from"
    assert verdicts[400].why == ["ahead of the branch"]
    assert verdicts[350].why == ["newest", "last 1"]


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ({"keep_last": 2}, Policy(last=2)),
        ({"keep_every": "1000steps"}, Policy(last=3, every_steps=1000)),
        ({"keep_every": "6h"}, Policy(last=3, every_seconds=6 * HOUR)),
        ({"keep_within": "2d"}, Policy(last=3, within=48 * HOUR)),
        ({"keep_best": ("2", "1:accuracy:max")}, Policy(last=3, best=(Best(2), Best(1, "accuracy", True)))),
        ({"keep_tag": ("a",), "keep_hourly": 4}, Policy(last=3, hourly=4, tags=("a",))),
    ],
)
def test_flags(flags, policy):
    none = {
        "keep_last": None, "keep_every": None, "keep_hourly": 0, "keep_within": None, "keep_best": (), "keep_tag": (),
    }  # fmt: skip
    assert policy_of(**{**none, **flags}, default_last=3) == policy


@pytest.mark.parametrize("wrong", ["0", "x", "3:", "3:loss:low", "-1"])
def test_a_best_that_is_none(wrong):
    with pytest.raises(UsageError, match="--keep-best"):
        policy_of(
            keep_last=None, keep_every=None, keep_hourly=0, keep_within=None, keep_best=(wrong,), keep_tag=()
        )


def test_what_goes_takes_nothing_of_the_others_along(folder, segment):
    way = Way(Known())
    paths = [make_checkpoint(folder, segment, step, way) for step in range(5)]
    (shared,) = {pack_of(path).stat().st_ino for path in paths}
    done = removal.retain(folder, Policy(last=2), paths[-1], 0)
    assert (done.gone, done.held, done.room) == (paths[:3], [], [])
    assert [verify_checkpoint(path).step for path in paths[3:]] == [3, 4]
    assert pack_of(paths[4]).stat().st_ino == shared
    assert list(folder.work.iterdir()) == []


def test_what_is_being_read_stays(folder, segment):
    paths = [make_checkpoint(folder, segment, step) for step in range(3)]
    with OpenCheckpoint(paths[0]), hold(paths[1]):
        done = removal.retain(folder, Policy(last=1), paths[2], 0)
        assert (done.gone, done.held) == ([], paths[:2])
    assert removal.retain(folder, Policy(last=1), paths[2], 0).gone == paths[:2]


def test_pinned_ones_stay_and_a_pin_that_cannot_be_read_is_one(folder, segment):
    paths = [make_checkpoint(folder, segment, step) for step in range(4)]
    write_mark(paths[0], Mark(pinned=True))
    write_mark(paths[1], Mark(tags=("x",)))
    (paths[2] / "pin.json").write_text("{")
    assert read_mark(paths[1]) == Mark(tags=("x",))
    assert removal.retain(folder, Policy(last=1), paths[3], 0).gone == [paths[1]]
    write_mark(paths[0], Mark())
    assert removal.retain(folder, Policy(last=1), paths[3], 0).gone == [paths[0]]
    with pytest.raises(UsageError, match="no tag"):
        write_mark(paths[3], Mark(tags=("a b",)))


def test_forget_never_takes_the_newest_that_is_whole(folder, segment, monkeypatch):
    monkeypatch.setattr("ckptd.store.hold.PATIENCE", 0.05)
    paths = [make_checkpoint(folder, segment, step) for step in range(4)]
    for path in paths[2:]:  # their manifests are right, their data isn't
        data = bytearray(pack_of(path).read_bytes())
        data[-1] ^= 1
        pack_of(path).write_bytes(data)
    verdicts = removal.plan(folder, Policy(last=1))
    whole = removal.newest_whole([verdict.entry for verdict in verdicts])
    assert whole is not None
    assert whole.path == paths[1]
    with alone(paths[1]), pytest.raises(DamagedError, match="is being removed"):
        removal.forget(folder, Policy(last=1), verdicts, whole)
    done = removal.forget(folder, Policy(last=1), verdicts, whole)
    assert done.gone == [paths[0], paths[2]]
    assert [item.path for item in list_checkpoints(folder)] == [paths[1], paths[3]]


def test_a_pin_at_the_last_moment_counts(folder, segment, monkeypatch):
    """Between the decision and the removal; and one that comes too late is told so."""
    monkeypatch.setattr("ckptd.store.hold.PATIENCE", 0.05)
    paths = [make_checkpoint(folder, segment, step) for step in range(3)]
    decided = removal.plan(folder, Policy(last=1))
    write_mark(paths[0], Mark(pinned=True))
    done = removal.forget(folder, Policy(last=1), decided, decided[-1].entry)
    assert (done.gone, done.marked) == ([paths[1]], [paths[0]])
    with alone(paths[2]), pytest.raises(DamagedError, match="is being removed"):
        write_mark(paths[2], Mark(pinned=True))
    with pytest.raises(DamagedError, match="was removed meanwhile"):
        write_mark(paths[1], Mark(pinned=True))


def test_room_is_made_before_it_is_needed_and_no_more_than_that(folder, segment, monkeypatch):
    paths = [make_checkpoint(folder, segment, step) for step in range(6)]
    write_mark(paths[1], Mark(pinned=True))
    count = len(list_checkpoints(folder))

    def free(path: Path) -> int:  # each one that goes frees 100 bytes
        return 50 + 100 * (count - len(index.folder_names(folder)))

    monkeypatch.setattr(removal, "free_bytes", free)
    done = removal.retain(folder, Policy(last=6), paths[-1], 240)
    assert (done.gone, done.room, done.missing) == ([paths[0], paths[2]], [paths[0], paths[2]], 0)
    done = removal.retain(folder, Policy(last=6), paths[-1], 10_000)
    assert done.room == [paths[3], paths[4]]
    assert done.missing == 10_000 - 450
    assert [item.path for item in list_checkpoints(folder)] == [paths[1], paths[5]]


def test_what_was_seen_is_read_once_and_what_others_do_is_seen(folder, segment, monkeypatch):
    now, read = [0.0], []

    def noted(path):
        read.append(path.name)
        return read_manifest(path)

    monkeypatch.setattr("ckptd.store.index.read_manifest", noted)
    paths = [make_checkpoint(folder, segment, step) for step in range(4)]
    seen = Seen(folder, lambda: now[0])
    assert seen.entries() == index.entries(folder)
    (folder.path / index.INDEX).unlink()  # from here on each look at a manifest is one
    read.clear()
    removal.remove(folder, paths[1:2])
    newer = make_checkpoint(folder, segment, 9)
    (paths[2] / "manifest.json").write_text("{")
    assert [entry.path for entry in seen.entries()] == [paths[0], *paths[2:], newer]
    assert read == [newer.name]
    assert all(entry.good for entry in seen.entries())
    now[0] += 601  # a manifest never changes; that a disk has spoiled one is found now and then
    assert [entry.path for entry in seen.entries() if not entry.good] == [paths[2]]
    assert seen.entries() == index.entries(folder)
    shutil.rmtree(folder.checkpoints)
    assert seen.entries() == []
    assert removal.retain(folder, Policy(last=1), newer, 0, seen).gone == []
