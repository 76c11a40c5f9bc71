"""Google's metadata server: each value followed by long polls of its own."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from fakes.gcp import FakeGcp
from fakes.serving import Reply

from ckptd.notices.event import LEAVE, PAUSE
from ckptd.notices.gcp import gcp_sources


@pytest.fixture
def fake():
    with FakeGcp() as fake:
        yield fake


@pytest.fixture
def start(fake, listen):
    def start():
        listening = listen(*gcp_sources({"GCE_METADATA_HOST": fake.host}))
        listening.fares("gcp", "ok")
        return listening

    return start


def of(fake, path):
    return [asked for asked in fake.asked if asked.path.endswith(path)]


def test_the_first_read_does_not_wait_and_the_next_wait_for_what_it_has_not_seen(fake, start, await_that):
    start()
    await_that(lambda: len(fake.asked) >= 4)
    tags = set()
    for path in ("instance/preempted", "instance/maintenance-event"):
        first, second = of(fake, path)[:2]
        assert first.query == {}
        assert second.query["wait_for_change"] == "true"
        assert 1 <= int(second.query["timeout_sec"]) < 30
        tags.add(second.query["last_etag"])
    assert len(tags) == 2  # the tag of one path means nothing for another
    assert tags == {
        etag
        for _, etag in (fake._values[path] for path in ("instance/preempted", "instance/maintenance-event"))
    }
    assert {tuple(asked.all("Metadata-Flavor")) for asked in fake.asked} == {("Google",)}


@pytest.mark.parametrize("standing", [False, True])
def test_a_preemption_gives_30_seconds_and_is_heard_at_once(fake, start, standing):
    if standing:
        fake.mark()
    gcp = start()
    begun = time.monotonic()
    fake.mark()
    notice = gcp.next()
    assert time.monotonic() - begun < 1.0
    assert (notice.kind, notice.id) == (LEAVE, "preempted")
    assert notice.deadline - time.monotonic() == pytest.approx(30, abs=1)


def test_a_change_between_two_polls_is_not_missed(fake, start, monkeypatch, await_that):
    """Marked while no poll is under way: the tag that is sent along is the old one."""
    gcp = start()
    await_that(lambda: len(fake.asked) >= 4)
    whole = fake.reply
    missed: list[object] = []

    def reply(asked):
        if not missed and asked.path.endswith("preempted"):
            missed.append(asked)
            fake.mark()  # behind the answer before, and before this request is held
        return whole(asked)

    monkeypatch.setattr(fake, "reply", reply)
    fake.withdraw()  # nothing new, but the poll that is held ends
    assert gcp.next(1.0).id == "preempted"
    assert not [asked for asked in of(fake, "preempted")[1:] if "last_etag" not in asked.query]


@pytest.mark.parametrize(
    ("value", "kind"), [("TERMINATE_ON_HOST_MAINTENANCE", LEAVE), ("MIGRATE_ON_HOST_MAINTENANCE", PAUSE)]
)
def test_maintenance_of_the_host(fake, start, value, kind):
    gcp = start()
    fake.maintain(value)
    notice = gcp.next()
    assert (notice.kind, notice.deadline) == (kind, None)
    fake.maintain("NONE")
    assert gcp.next().withdrawn


def test_another_kind_of_maintenance_takes_the_place_of_the_first(fake, start):
    gcp = start()
    fake.maintain("MIGRATE_ON_HOST_MAINTENANCE")
    first = gcp.next()
    fake.maintain("TERMINATE_ON_HOST_MAINTENANCE")
    assert [(each.id, each.withdrawn) for each in (gcp.next(), gcp.next())] == [
        (first.id, True),
        ("TERMINATE_ON_HOST_MAINTENANCE", False),
    ]


@pytest.mark.usefixtures("hasty")
def test_a_poll_that_ends_without_a_change_is_followed_by_another(fake, start, await_that):
    gcp = start()
    await_that(lambda: len(of(fake, "preempted")) >= 4)
    assert gcp.maybe(0.0) is None
    assert gcp.health("gcp").state == "ok"
    times = [asked.when for asked in of(fake, "preempted")]
    assert min(later - earlier for earlier, later in pairwise(times[1:])) > 0.2


@pytest.mark.parametrize("tagged", [True, False])
def test_a_server_that_does_not_hold_polls_is_not_asked_in_a_hot_loop(fake, start, tagged, monkeypatch):
    fake.holds = False
    whole = fake.reply
    if not tagged:
        monkeypatch.setattr(
            fake, "reply", lambda asked: Reply(200, whole(asked).text, {"Metadata-Flavor": "Google"})
        )
    gcp = start()
    assert gcp.maybe(0.6) is None
    assert len(fake.asked) <= 8
    fake.mark()
    assert gcp.next(1.0).kind == LEAVE


def test_an_error_is_followed_by_another_try_within_a_second(fake, start, await_that):
    start()
    fake.trouble = "500"
    fake.set("instance/preempted", "FALSE")
    await_that(lambda: len(of(fake, "preempted")) >= 4)
    times = [asked.when for asked in of(fake, "preempted")]
    assert times[-1] - times[-2] <= 1.0


@pytest.mark.usefixtures("hasty")
def test_one_value_in_trouble_is_said_and_the_other_is_heard(fake, start):
    gcp = start()
    fake.trouble, fake.troubled = "hang", "maintenance-event"
    assert gcp.fares("gcp", "trouble").text
    fake.mark()
    assert gcp.next(1.0).id == "preempted"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(404, "", {"Metadata-Flavor": "Google"}), "answers 404 to /computeMetadata/v1/instance/"),
        (Reply(200, "TRUE"), "is not Google's metadata server"),
        (Reply(200, "PERHAPS", {"Metadata-Flavor": "Google"}), "'PERHAPS'"),
    ],
)
def test_what_is_no_answer_of_googles_is_said(fake, listen, monkeypatch, reply, says):
    monkeypatch.setattr(fake, "reply", lambda asked: reply)
    listening = listen(*gcp_sources({"GCE_METADATA_HOST": fake.host}))
    assert says in listening.fares("gcp", "trouble").text
    assert listening.maybe(0.1) is None
