"""What Amazon's metadata mean."""

from __future__ import annotations

import json
import time

import pytest
from fakes.aws import SCHEDULED, SPOT, FakeAws

from ckptd.notices.aws import aws_sources
from ckptd.notices.event import ADVICE, LEAVE, PAUSE

pytestmark = pytest.mark.usefixtures("brisk")


@pytest.fixture
def fake():
    with FakeAws() as fake:
        yield fake


@pytest.fixture
def aws(fake, listen):
    listening = listen(*aws_sources({"AWS_EC2_METADATA_SERVICE_ENDPOINT": fake.url}))
    listening.fares("aws", "ok")
    return listening


@pytest.mark.parametrize(
    ("action", "kind", "left", "says"),
    [
        ("terminate", LEAVE, 100, "AWS terminates this spot instance at "),
        ("stop", LEAVE, 100, "AWS stops this spot instance at "),
        ("hibernate", PAUSE, 0, "AWS hibernates this spot instance at "),
        ("retype", LEAVE, 100, "AWS announces retype for this spot instance at "),
    ],
)
def test_what_becomes_of_a_spot_instance(fake, aws, action, kind, left, says):
    fake.mark(100, action)
    notice = aws.next()
    assert (notice.kind, notice.id) == (kind, "spot")
    assert notice.text.startswith(says)
    assert notice.deadline - time.monotonic() == pytest.approx(left, abs=2.5)


@pytest.mark.parametrize("skew", [86400.0, -86400.0])
def test_a_wrong_clock_of_ours_moves_no_deadline(fake, aws, skew):
    fake.skew = skew
    fake.mark(90)
    assert aws.next().deadline - time.monotonic() == pytest.approx(90, abs=2.5)


@pytest.mark.parametrize(("seconds", "left"), [(36000, 120), (-30, 0)])
def test_absurd_and_past_times_are_told_once(fake, aws, seconds, left, await_that):
    fake.mark(seconds)
    assert aws.next().deadline - time.monotonic() == pytest.approx(left, abs=2.5)
    begun = len(fake.asked)
    await_that(lambda: len(fake.asked) > begun + 9)
    assert aws.maybe(0.1) is None


def test_a_stop_that_failed_long_ago_makes_no_job_leave(fake, aws):
    fake.mark(-3600)
    notice = aws.next()
    assert (notice.kind, notice.deadline) == (ADVICE, None)
    assert "has not done so" in notice.text


def test_another_time_is_told_under_the_same_id(fake, aws):
    fake.mark(100)
    first = aws.next()
    fake.mark(30)
    second = aws.next()
    assert second.id == first.id
    assert first.deadline - second.deadline == pytest.approx(70, abs=2.5)


def test_a_time_that_can_not_be_read_is_a_notice_all_the_same(fake, aws):
    fake.values[SPOT] = '{"action": "terminate", "time": "soon"}'
    notice = aws.next()
    assert (notice.kind, notice.deadline) == (LEAVE, None)


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"action": 3}', "terminate"])
def test_what_is_no_action_is_said(fake, aws, value):
    fake.values[SPOT] = value
    assert aws.fares("aws", "trouble").text
    fake.mark()
    assert aws.next().kind == LEAVE


def test_a_recommendation_is_advice(fake, aws):
    fake.advise()
    notice = aws.next()
    assert (notice.kind, notice.deadline) == (ADVICE, None)
    assert "rebalance" in notice.text
    fake.mark()
    assert aws.next().kind == LEAVE


@pytest.mark.parametrize(
    ("code", "seconds", "kind"),
    [
        ("instance-reboot", 600, LEAVE),
        ("system-reboot", 600, LEAVE),
        ("instance-retirement", 600, LEAVE),
        ("instance-stop", 600, LEAVE),
        ("system-maintenance", 600, PAUSE),
        ("instance-retirement", 14 * 86400, ADVICE),
        ("instance-reboot", -3600, ADVICE),
        ("brand-new", 600, ADVICE),
    ],
)
def test_scheduled_maintenance(fake, aws, code, seconds, kind):
    fake.schedule(seconds, code)
    notice = aws.next()
    assert (notice.kind, notice.id) == (kind, "instance-event-1")
    assert notice.deadline - time.monotonic() == pytest.approx(max(seconds, 0), abs=2.5)


@pytest.mark.parametrize("how", ["canceled", "completed", "gone"])
def test_maintenance_that_is_called_off_is_withdrawn(fake, aws, how):
    fake.schedule()
    assert aws.next().kind == LEAVE
    if how == "gone":
        fake.values[SCHEDULED] = "[]"
    else:
        fake.schedule(state=how)
    assert aws.next().withdrawn


def test_maintenance_is_told_again_when_it_is_near(fake, aws, monkeypatch):
    monkeypatch.setattr("ckptd.notices.aws.NEAR_SECONDS", 60.0)
    fake.schedule(3600)
    assert aws.next().kind == ADVICE
    monkeypatch.setattr("ckptd.notices.aws.NEAR_SECONDS", 3601.0)  # as if the time had gone by
    assert aws.next().kind == LEAVE


def test_one_object_instead_of_a_list_is_understood(fake, aws):
    fake.schedule()
    fake.values[SCHEDULED] = json.dumps(json.loads(fake.values[SCHEDULED])[0])
    assert aws.next().kind == LEAVE


def test_a_path_that_hangs_keeps_spots_own_from_nothing(fake, aws):
    fake.trouble, fake.troubled = "hang", "events/"
    fake.mark()
    begun = time.monotonic()
    assert aws.next().kind == LEAVE
    assert time.monotonic() - begun < 0.7


def test_the_other_address_is_taken_where_amazons_variable_says_so():
    sources = aws_sources({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"})
    assert {each._guarded._service.base for each in sources} == {"http://[fd00:ec2::254]"}
    sources = aws_sources({})
    assert {each._guarded._service.base for each in sources} == {"http://169.254.169.254"}
