"""Times beside needs: plain arithmetic, with numbers that can be done in the head."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from store_fixtures.making import make_checkpoint, make_segment

from ckptd.doctor.budget import (
    FITS,
    NO_ROOM,
    TIGHT,
    TOO_LONG,
    UNKNOWN,
    asked_for,
    grace_findings,
    judge,
    largest,
    need_of,
    need_of_spilled,
    seconds_text,
    time_findings,
    without_disk,
)
from ckptd.doctor.findings import LOSES, WARNS
from ckptd.doctor.notice import GRACE, Notice, known_notices, replaced
from ckptd.doctor.place import AWS, GCP, Place
from ckptd.doctor.rates import Rates
from ckptd.doctor.size import Size, existing_store, parse_size, stored_size
from ckptd.errors import NoStoreError, UsageError
from ckptd.store.layout import open_store

RATES = Rates(threads=2, copy=2e9, copy_again=8e9, hash=8e9, write=1e9, read=1e9, upload=1e8)
SIZE = Size(8 * 10**9, "--size")
STOP = Notice("systemd stop", 10, here=True, mend="TimeoutStopSec={need}", fact="TimeoutStopSec of t.service")


def test_the_parts_are_added_up():
    need = need_of(8 * 10**9, RATES, wait=0.5)
    assert (need.memory, need.disk, need.remote) == (4.5, 13.5, 93.5)


@pytest.mark.parametrize(
    "rates", [replace(RATES, copy=0.0), replace(RATES, hash=0.0), replace(RATES, write=0.0)]
)
def test_what_was_not_measured_is_not_known(rates):
    need = need_of(8 * 10**9, rates)
    assert need.disk is None
    assert need.remote is None
    assert judge(need, STOP).disk == UNKNOWN


@pytest.mark.parametrize("spilled", [False, True])
@pytest.mark.parametrize("disk", [False, True])
def test_what_has_no_room_is_never_safe(spilled, disk):
    need = need_of_spilled(8 * 10**9, RATES) if spilled else need_of(8 * 10**9, RATES)
    need = need if disk else without_disk(need)
    judged = judge(need, replace(STOP, seconds=math.inf))
    assert (judged.memory, judged.disk) == (NO_ROOM if spilled else FITS, FITS if disk else NO_ROOM)
    assert (time_findings(need, SIZE, [replace(STOP, seconds=1)], remote=False) == []) == (not disk)


def test_what_memory_has_no_room_for_goes_to_the_disk_at_once():
    need, copied = need_of_spilled(8 * 10**9, RATES, wait=0.5), need_of(8 * 10**9, RATES, wait=0.5)
    assert need.memory == math.inf
    assert need.disk is not None
    assert copied.disk is not None
    assert copied.memory is not None
    assert need.disk == copied.disk - copied.memory + 0.5


@pytest.mark.parametrize(
    ("seconds", "word"), [(17, FITS), (14, TIGHT), (13, TIGHT), (12, TOO_LONG), (math.inf, FITS)]
)
def test_a_fifth_of_the_time_is_kept_free(seconds, word):
    assert judge(need_of(8 * 10**9, RATES), replace(STOP, seconds=seconds)).disk == word


def test_memory_that_is_made_ready_takes_a_copy_alone():
    assert need_of(8 * 10**9, RATES, ready=8 * 10**9).memory == 1.0
    assert need_of(8 * 10**9, RATES, ready=8 * 10**9 - 1).memory == 4.0


@pytest.mark.parametrize("ready", [10**9, 20 * 10**9, 60 * 10**9, 10**12])
def test_the_largest_is_the_last_that_fits(ready):
    for part, nbytes in zip(("memory", "disk"), largest(30, RATES, ready=ready), strict=True):
        for size, fits in ((nbytes, True), (1.01 * nbytes, False)):
            need = getattr(need_of(int(size), RATES, ready=ready), part)
            assert (need <= 24) == fits


def test_the_largest_that_fits_fits():
    memory, disk = largest(30, RATES, wait=1.0)
    for nbytes, part in ((memory, "memory"), (disk, "disk")):
        there = replace(STOP, seconds=30)
        assert getattr(judge(need_of(int(nbytes), RATES, 1.0), there), part) == FITS
        assert getattr(judge(need_of(int(nbytes * 1.01), RATES, 1.0), there), part) == TIGHT


def test_what_is_asked_for_fits():
    for need in (0.1, 4.0, 13.0, 31.9, 400.0):
        assert need <= 0.8 * asked_for(need)


def test_a_short_time_is_named_with_its_mend():
    (found,) = time_findings(need_of(SIZE.nbytes, RATES), SIZE, [STOP], remote=False)
    assert found.severity == LOSES
    assert "8.0 GB need 13 s" in found.text
    assert "gives 10 s (TimeoutStopSec of t.service)" in found.text
    assert "in memory they are safe after 4.0 s" in found.text
    assert found.mend == "TimeoutStopSec=20"


def test_what_is_not_here_is_no_finding():
    need = need_of(SIZE.nbytes, RATES)
    assert time_findings(need, SIZE, [replace(STOP, here=False)], remote=False) == []


def test_a_delay_that_is_short_ends_nothing_by_itself():
    need = need_of(SIZE.nbytes, RATES)
    (found,) = time_findings(need, SIZE, [replace(STOP, seconds=5, delays=True)], remote=False)
    assert found.severity == WARNS


def test_where_the_machine_goes_the_remote_counts_too():
    need = need_of(SIZE.nbytes, RATES)
    spot = Notice("AWS spot", 60, here=True, machine=True)
    (found,) = time_findings(need, SIZE, [spot], remote=True)
    assert (found.what, found.severity) == ("AWS spot, remote", WARNS)
    assert time_findings(need, SIZE, [spot], remote=False) == []
    assert time_findings(need, SIZE, [replace(spot, seconds=200)], remote=True) == []


def test_ckptd_must_not_be_told_more_time_than_it_has():
    own = Notice(GRACE, 25, here=True)
    (found,) = grace_findings([own, STOP])
    assert found.mend == "ckptd run --grace 9s -- CMD"
    assert grace_findings([own, replace(STOP, here=False)]) == []
    assert grace_findings([own, replace(STOP, delays=True)]) == []
    assert grace_findings([own, replace(STOP, seconds=25)]) == []


@pytest.mark.parametrize(
    ("place", "here"),
    [
        (Place(), {GRACE}),
        (Place(cloud=AWS), {GRACE, "AWS spot"}),
        (Place(cloud=GCP), {GRACE, "GCP spot"}),
        (Place(cloud=GCP, kubernetes=True), {GRACE, "GKE spot pod", "Kubernetes pod"}),
        (Place(cloud=AWS, kubernetes=True), {GRACE, "AWS spot", "Kubernetes pod"}),
    ],
)
def test_which_notices_may_come(place, here):
    assert {each.name for each in known_notices(place, 25) if each.here} == here


def test_what_was_seen_takes_the_place_of_what_the_manual_says():
    known = replaced(known_notices(Place(), 25), [STOP])
    assert [each.seconds for each in known if each.name == STOP.name] == [10]
    assert len(known) == len(known_notices(Place(), 25))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (31.2, "31 s"), (299, "299 s"), (300, "5 min"), (7300, "2 h"), (None, "-"),
     (math.inf, "no end")],
)  # fmt: skip
def test_times_in_words(seconds, text):
    assert seconds_text(seconds) == text


# ---- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("24G", 24 * 10**9), ("1.5 GB", 15 * 10**8), ("512MiB", 512 << 20), ("3k", 3000), ("2t", 2 * 10**12), ("7", 7)],
)  # fmt: skip
def test_sizes_as_people_write_them(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "G", "0", "-1G", "24 apples", "1e9", "24GX"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


def test_the_newest_checkpoint_says_it_exactly(tmp_path: Path):
    assert existing_store(tmp_path / "store") is None
    folder = open_store(tmp_path / "store").job("0123abcd")
    folder.make()
    store = existing_store(tmp_path / "store")
    assert store is not None
    assert stored_size(store, "0123abcd") is None
    for step, elements in ((5, 100), (7, 3000)):
        segment = make_segment(
            tmp_path / f"{step}.seg", [("x", "F32", 4 * elements)], facts={"step_seconds": 0.25}
        )
        path = make_checkpoint(folder, segment, step, created=1.7e9 + step)
    found = stored_size(store, "0123abcd")
    assert found is not None
    assert found.whence == f"checkpoint {path.name[13:]} at step 7"
    assert 12000 <= found.nbytes < 12100  # the tensor and the graph
    assert (found.step_seconds, found.checkpoints) == (0.25, 2)


def test_a_folder_with_something_else_in_it_is_no_store(tmp_path: Path):
    (tmp_path / "empty" / "lost+found").mkdir(parents=True)
    assert existing_store(tmp_path / "empty") is None
    with pytest.raises(NoStoreError, match="not a ckptd store"):
        existing_store(tmp_path)
