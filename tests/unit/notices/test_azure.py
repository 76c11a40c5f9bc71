"""Azure's Scheduled Events: of this machine only, withdrawn when they vanish, acknowledged when asked."""

from __future__ import annotations

import json
import time

import pytest
from fakes.azure import EVENTS, FakeAzure
from fakes.serving import Reply

from ckptd.notices.azure import azure_sources
from ckptd.notices.event import LEAVE, PAUSE

pytestmark = pytest.mark.usefixtures("brisk")


@pytest.fixture
def fake():
    with FakeAzure() as fake:
        yield fake


@pytest.fixture
def begin(fake, listen):
    return lambda: listen(*azure_sources({"CKPTD_AZURE_METADATA": fake.url}))


@pytest.fixture
def azure(begin):
    listening = begin()
    listening.fares("azure", "ok")
    return listening


@pytest.mark.parametrize(
    ("kind", "seconds", "meaning", "left"),
    [
        ("Preempt", 30, LEAVE, 30),
        ("Terminate", 300, LEAVE, 300),
        ("Reboot", 900, LEAVE, 900),
        ("Redeploy", 600, LEAVE, 600),
        ("Freeze", 900, PAUSE, 900),
        ("Preempt", 90000, LEAVE, 600),
        ("Preempt", -60, LEAVE, 0),
        ("Unheard-of", 100, LEAVE, 100),
    ],
)
def test_types_of_events(fake, azure, kind, seconds, meaning, left):
    number = fake.mark(seconds, kind)
    notice = azure.next()
    assert (notice.kind, notice.id) == (meaning, number)
    assert notice.deadline - time.monotonic() == pytest.approx(left, abs=2.5)


def test_a_wrong_clock_of_ours_moves_no_deadline(fake, azure):
    fake.skew = -86400.0
    fake.mark(90)
    assert azure.next().deadline - time.monotonic() == pytest.approx(90, abs=2.5)


def test_events_of_neighbours_are_not_ours(fake, azure, await_that):
    other = fake.mark(30, resources=("trainer_1",))
    ours = fake.mark(30, resources=("trainer_1", "TRAINER_0"))
    assert azure.next().id == ours
    fake.withdraw(other)
    begun = len(fake.asked)
    await_that(lambda: len(fake.asked) > begun + 2)
    assert azure.maybe(0.0) is None


def test_one_that_has_started_has_no_time_and_is_now(fake, azure):
    number = fake.mark(600, "Reboot")
    assert azure.next().deadline > time.monotonic() + 500
    fake.start(number)
    notice = azure.next()
    assert notice.id == number
    assert notice.deadline <= time.monotonic()
    assert azure.maybe(0.5) is None  # it is now each time it is read, and that is nothing new


def test_a_freeze_that_is_over_is_withdrawn(fake, azure):
    number = fake.mark(900, "Freeze")
    azure.next()
    fake.start(number)
    azure.next()
    fake.withdraw(number)
    gone = azure.next()
    assert (gone.id, gone.kind, gone.withdrawn) == (number, PAUSE, True)


def test_two_events_at_once(fake, azure):
    first, second = fake.mark(60), fake.mark(30)
    assert {azure.next().id, azure.next().id} == {first, second}
    fake.withdraw(first)
    gone = azure.next()
    assert (gone.id, gone.withdrawn) == (first, True)


def test_another_incarnation_of_the_same_says_nothing(fake, azure, await_that):
    fake.mark()
    azure.next()
    fake.move()
    begun = len(fake.asked)
    await_that(lambda: len(fake.asked) > begun + 2)
    assert azure.maybe(0.0) is None


def test_the_same_incarnation_is_not_read_again(fake, azure, monkeypatch, await_that):
    """Same number, same content, says Azure: what stands there under an old number is nothing new."""
    fake._events["x"] = {"EventId": "x", "EventType": "Reboot", "Resources": [fake.name], "NotBefore": ""}
    begun = len(fake.asked)
    await_that(lambda: len(fake.asked) > begun + 2)
    assert azure.maybe(0.0) is None
    fake.move()
    assert azure.next().id == "x"


def test_the_first_call_may_take_its_time(fake, begin, monkeypatch):
    monkeypatch.setattr("ckptd.notices.azure.PATIENCE", 0.2)
    fake.first = 0.8
    listening = begin()
    assert listening.maybe(0.4) is None
    assert listening.health("azure").state == "starting"
    listening.fares("azure", "ok")
    assert len([asked for asked in fake.asked if asked.path == EVENTS][:2]) >= 1


def test_every_request_says_metadata_and_a_version(fake, azure):
    assert {tuple(asked.all("Metadata")) for asked in fake.asked} == {("true",)}
    assert all(asked.query["api-version"] for asked in fake.asked)


@pytest.mark.parametrize("trouble", ["500", "hang"])
def test_without_a_name_every_event_is_ours_until_there_is_one(fake, begin, monkeypatch, trouble):
    monkeypatch.setattr("ckptd.notices.azure.PATIENCE", 0.3)
    fake.trouble, fake.troubled = trouble, "compute/name"
    other = fake.mark(30, resources=("trainer_1",))
    azure = begin()
    assert azure.next().id == other
    assert azure.fares("azure", "trouble").text
    fake.trouble = ""
    assert azure.next().withdrawn
    azure.fares("azure", "ok")


def test_an_event_is_acknowledged_only_when_asked(fake, azure, await_that):
    number = fake.mark(30)
    azure.next()
    begun = len(fake.asked)
    await_that(lambda: len(fake.asked) > begun + 2)
    assert not [asked for asked in fake.asked if asked.method == "POST"]
    azure.watch.sources[0].acknowledge(number)
    await_that(lambda: fake.acknowledged)
    (posted,) = [asked for asked in fake.asked if asked.method == "POST"]
    assert json.loads(posted.body) == {"StartRequests": [{"EventId": number}]}
    assert azure.next().deadline <= time.monotonic()
    assert fake.acknowledged == [number]


def test_an_acknowledgement_is_sent_before_the_watch_is_closed(fake, azure):
    number = fake.mark(30)
    azure.next()
    azure.watch.sources[0].acknowledge(number)
    azure.watch.close()
    assert fake.acknowledged == [number]


def test_an_acknowledgement_is_sent_again_until_it_is_taken(fake, azure, monkeypatch, await_that):
    number, whole = fake.mark(30), fake.reply
    azure.next()
    monkeypatch.setattr(fake, "reply", lambda asked: Reply(500) if asked.method == "POST" else whole(asked))
    azure.watch.sources[0].acknowledge(number)
    assert "may begin" in azure.fares("azure", "trouble").text
    second = fake.mark(60)
    assert azure.next(1.0).id == second  # what can't be acknowledged hides nothing
    monkeypatch.setattr(fake, "reply", whole)
    await_that(lambda: fake.acknowledged == [number])


def test_what_is_gone_or_malformed_is_not_acknowledged_for_ever(fake, azure, await_that):
    azure.watch.sources[0].acknowledge("no such event")
    await_that(lambda: [asked for asked in fake.asked if asked.method == "POST"])
    begun = len(fake.asked)
    await_that(lambda: len(fake.asked) > begun + 2)
    assert len([asked for asked in fake.asked if asked.method == "POST"]) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Events": {}}', '{"Events": [3]}'])
def test_what_is_no_document_is_said(fake, azure, monkeypatch, text):
    whole = fake.reply
    monkeypatch.setattr(
        fake, "reply", lambda asked: Reply(200, text) if asked.path == EVENTS else whole(asked)
    )
    assert azure.fares("azure", "trouble").text
