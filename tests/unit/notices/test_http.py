"""The client: bounded in time and size, straight to the address, and ended at once when it is over."""

from __future__ import annotations

import threading
import time

import pytest
from fakes.serving import Asked, Fake, Reply

from ckptd.errors import UsageError
from ckptd.notices.event import Over
from ckptd.notices.http import NoAnswer, Service, TooLate


class Plain(Fake):
    def reply(self, asked: Asked) -> Reply:
        return Reply(200, f" {asked.method} {asked.path} {asked.body.decode()}\n", {"X-Thing": "a"})


@pytest.fixture
def fake():
    with Plain() as fake:
        yield fake


@pytest.fixture
def over():
    over = Over()
    yield over
    over.close()


def test_an_answer_has_status_headers_body_and_clock(fake, over):
    fake.skew = 7200.0
    answer = Service(fake.url).ask("/a?b=c", over, 2.0, method="POST", body=b"x", headers={"Y": "z"})
    assert (answer.status, answer.headers["x-thing"], answer.text()) == (200, "a", "POST /a x")
    assert answer.clock == pytest.approx(time.time() + 7200, abs=3)
    assert answer.heard == pytest.approx(time.monotonic(), abs=3)
    assert fake.asked[0].all("Y") == ["z"]


def test_a_server_without_a_clock_leaves_ours(fake, over):
    fake.skew = None
    assert Service(fake.url).ask("/", over, 2.0).clock == pytest.approx(time.time(), abs=3)


@pytest.mark.parametrize(
    ("trouble", "kind", "says"),
    [
        ("hang", TooLate, "doesn't answer within 0.3 s"),
        ("trickle", TooLate, "doesn't answer within 0.3 s"),
        ("half", NoAnswer, "breaks off"),
        ("drop", NoAnswer, "closed connection without response"),
        ("garbage", NoAnswer, "no answer that can be understood"),
        ("huge", NoAnswer, "more than 1048576 bytes"),
    ],
)
def test_what_is_no_answer(fake, over, trouble, kind, says):
    fake.trouble = trouble
    begun = time.monotonic()
    with pytest.raises(kind, match=says):
        Service(fake.url).ask("/", over, 0.3 if kind is TooLate else 5.0)
    assert time.monotonic() - begun < 3.0


@pytest.mark.parametrize(("trouble", "status"), [("redirect", 302), ("500", 500)])
def test_every_status_is_an_answer_and_no_redirect_is_followed(fake, over, trouble, status):
    fake.trouble = trouble
    assert Service(fake.url).ask("/", over, 2.0).status == status
    assert len(fake.asked) == 1


def test_it_ends_at_once_when_it_is_over(fake, over):
    fake.trouble = "hang"
    threading.Timer(0.1, over.set).start()
    begun = time.monotonic()
    with pytest.raises(NoAnswer):
        Service(fake.url).ask("/", over, 30.0)
    assert time.monotonic() - begun < 5


def test_an_address_where_nobody_listens(over):
    with Plain() as fake:
        url = fake.url
    with pytest.raises(NoAnswer, match="connection refused"):
        Service(url).ask("/", over, 2.0)


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("metadata.google.internal", "http://metadata.google.internal"),
    ],
)
def test_addresses(base, said):
    assert Service(base).base == said


@pytest.mark.parametrize(
    "base", ["https://127.0.0.1", "http://", "127.0.0.1:port", "file:///x", "http://[::1"]
)
def test_what_is_no_address_is_refused_by_the_variables_name(base):
    with pytest.raises(UsageError, match="THE_VARIABLE="):
        Service(base, "THE_VARIABLE")


def test_a_body_under_an_addresss_path(fake, over):
    assert Service(fake.url + "/deep/").ask("/x", over, 2.0).text() == "GET /deep/x"


@pytest.mark.parametrize("body", ["", "{", "[" * 100000, "\ud83d"])
def test_what_is_no_json(fake, over, body, monkeypatch):
    monkeypatch.setattr(fake, "reply", lambda asked: Reply(200, body.encode("utf-8", "ignore").decode()))
    with pytest.raises(NoAnswer, match="should be JSON"):
        Service(fake.url).ask("/", over, 2.0).json()
