"""What holds for every cloud's source: how soon it hears, and that nothing which goes wrong in it does harm."""

from __future__ import annotations

import threading
import time

import pytest

from ckptd.notices.event import LEAVE

BRISK = 0.05


def test_a_notice_is_heard_in_time(cloud, listen):
    with cloud.fake() as fake:
        listening = listen(*cloud.sources(cloud.env(fake)))
        assert listening.fares(cloud.name, "ok").answered == pytest.approx(time.time(), abs=5)
        begun = time.monotonic()
        fake.mark()
        notice = listening.next()
        assert time.monotonic() - begun <= cloud.every + 0.5
        assert (notice.source, notice.kind, notice.withdrawn) == (cloud.name, LEAVE, False)
        assert 25 <= notice.deadline - time.monotonic() <= 300


@pytest.mark.usefixtures("brisk")
def test_a_notice_is_withdrawn_and_may_come_again(cloud, listen):
    with cloud.fake() as fake:
        fake.mark()
        listening = listen(*cloud.sources(cloud.env(fake)))
        notice = listening.next()
        fake.withdraw()
        gone = listening.next()
        assert (gone.id, gone.kind, gone.withdrawn) == (notice.id, notice.kind, True)
        fake.mark()
        assert not listening.next().withdrawn


@pytest.mark.usefixtures("hasty")
def test_a_notice_that_stands_already_is_heard_once(cloud, listen, await_that):
    with cloud.fake() as fake:
        fake.mark()
        listening = listen(*cloud.sources(cloud.env(fake)))
        assert listening.next().kind == LEAVE
        asked = len(fake.asked)
        await_that(lambda: len(fake.asked) >= asked + 3)
        assert listening.maybe(0.1) is None


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("trouble", ["hang", "500", "half", "redirect"])
def test_trouble_is_said_and_gets_over(cloud, listen, trouble):
    with cloud.fake() as fake:
        fake.trouble = trouble
        listening = listen(*cloud.sources(cloud.env(fake)))
        said = listening.fares(cloud.name, "trouble")
        assert said.answered is None
        assert said.text
        assert "\n" not in said.text
        fake.mark()
        fake.trouble = ""
        assert listening.next().kind == LEAVE
        assert listening.fares(cloud.name, "ok").text == ""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("trouble", ["trickle", "drop"])
def test_trouble_in_the_middle_gets_over(cloud, listen, trouble):
    with cloud.fake() as fake:
        listening = listen(*cloud.sources(cloud.env(fake)))
        listening.fares(cloud.name, "ok")
        fake.trouble = trouble
        assert listening.fares(cloud.name, "trouble").answered is not None
        fake.trouble = ""
        listening.fares(cloud.name, "ok")
        fake.mark()
        assert listening.next().kind == LEAVE


def test_a_service_that_is_not_there_is_said(cloud, listen):
    with cloud.fake() as fake:
        env = cloud.env(fake)
    listening = listen(*cloud.sources(env))
    assert "connection refused" in listening.fares(cloud.name, "trouble").text


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("trouble", ["hang", "slow", "500"])
def test_none_keeps_another_waiting(cloud, clouds, listen, trouble):
    """All four at once; all but one are in trouble, and their fakes wait as long as they are let."""
    fakes = {name: each.fake() for name, each in clouds.items()}
    try:
        for name, fake in fakes.items():
            fake.trouble = "" if name == cloud.name else trouble
            fake.__enter__()
        sources = [one for name, each in clouds.items() for one in each.sources(each.env(fakes[name]))]
        listening = listen(*sources)
        listening.fares(cloud.name, "ok")
        begun = time.monotonic()
        fakes[cloud.name].mark()
        assert listening.next().source == cloud.name
        assert (
            time.monotonic() - begun <= BRISK + 0.9
        )  # a busy machine; what hangs is given up after 1 s at the earliest
        begun = time.monotonic()
        listening.watch.close()
        assert time.monotonic() - begun < 0.9
    finally:
        for fake in fakes.values():
            fake.__exit__()
    assert not [each for each in threading.enumerate() if each.name.startswith("notices-")]


def test_proxies_are_not_asked(cloud, clouds, listen, monkeypatch):
    with cloud.fake() as fake, clouds["aws"].fake() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        listen(*cloud.sources(cloud.env(fake))).fares(cloud.name, "ok")
        assert proxy.asked == []
        assert not [asked for asked in fake.asked if asked.all("X-Forwarded-For")]


def test_one_request_a_connection_with_one_host(cloud, listen):
    with cloud.fake() as fake:
        listen(*cloud.sources(cloud.env(fake))).fares(cloud.name, "ok")
        for asked in fake.asked:
            assert asked.all("Host") == [fake.host]
            assert asked.all("Connection") == ["close"]
