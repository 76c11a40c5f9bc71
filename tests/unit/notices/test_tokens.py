"""Tokens, as Amazon and Alibaba want them: one, of their own, and a new one where it is no longer known."""

from __future__ import annotations

import time

import pytest

from ckptd.notices.event import LEAVE


@pytest.fixture(params=["aws", "alibaba"])
def cloud(request, clouds, brisk):
    return clouds[request.param]


def looks(fake, start=0):
    return [asked for asked in fake.asked[start:] if asked.method == "GET"]


def test_a_token_is_got_once_and_sent_each_time(cloud, listen, await_that):
    with cloud.fake() as fake:
        listening = listen(*cloud.sources(cloud.env(fake)))
        await_that(lambda: len(looks(fake)) >= 6)
        threads = len(listening.watch.sources)
        assert [asked.path for asked in fake.asked if asked.method == "PUT"] == [
            "/latest/api/token"
        ] * threads
        assert [asked.all(fake.ttl_header) for asked in fake.asked if asked.method == "PUT"] == [
            ["21600"]
        ] * threads
        assert {len(asked.all(fake.token_header)) for asked in looks(fake)} == {1}
        assert {asked.all(fake.token_header)[0] for asked in looks(fake)} <= {*fake.given}


def test_a_token_that_is_no_longer_known_is_replaced_once_at_once(cloud, listen, await_that):
    with cloud.fake() as fake:
        listening = listen(*cloud.sources(cloud.env(fake)))
        listening.fares(cloud.name, "ok")
        fake.forget_tokens()
        fake.mark()
        before = len(fake.given)
        assert listening.next(1.0).kind == LEAVE
        assert listening.health(cloud.name).state == "ok"
        assert {len(asked.all(fake.token_header)) for asked in looks(fake)} == {1}
        assert 1 <= len(fake.given) - before <= len(listening.watch.sources)


def test_a_token_is_replaced_before_it_ends(cloud, listen, await_that, monkeypatch):
    monkeypatch.setattr("ckptd.notices.tokens.SPARE", 0.9)
    with cloud.fake() as fake:
        fake.longest = 1
        listening = listen(*cloud.sources(cloud.env(fake)))
        await_that(lambda: len(fake.given) >= 2 * len(listening.watch.sources))
        assert listening.health(cloud.name).state == "ok"


def test_a_service_that_refuses_every_token_is_said(cloud, listen, monkeypatch):
    with cloud.fake() as fake:
        monkeypatch.setattr(fake, "_is_good", lambda token: False)
        listening = listen(*cloud.sources(cloud.env(fake)))
        assert "answers 401" in listening.fares(cloud.name, "trouble").text
        seconds, begun = 0.4, len(fake.asked)
        time.sleep(seconds)  # that nothing is asked in a hot loop can only be seen by waiting
        assert len(fake.asked) - begun <= 4 * len(listening.watch.sources) * (seconds / 0.05 + 1)


@pytest.mark.usefixtures("hasty")
def test_version_1_is_asked_where_no_token_arrives_and_none_is_wanted(cloud, listen, await_that):
    with cloud.fake() as fake:
        fake.optional, fake.eats_tokens = True, True
        listening = listen(*cloud.sources(cloud.env(fake)))
        listening.fares(cloud.name, "ok")
        begun = len(fake.asked)
        fake.mark()
        assert listening.next(1.0).kind == LEAVE
        await_that(lambda: len(fake.asked) >= begun + 5)
        # A token is not asked for at each look: it would cost a second each time.
        assert len([asked for asked in fake.asked if asked.method == "PUT"]) == len(listening.watch.sources)
        fake.optional, fake.eats_tokens = False, False
        await_that(lambda: fake.given)
        listening.fares(cloud.name, "ok")


@pytest.mark.usefixtures("hasty")
def test_the_trap_of_the_hop_limit_is_named(cloud, listen):
    with cloud.fake() as fake:
        fake.eats_tokens = True
        said = listen(*cloud.sources(cloud.env(fake))).fares(cloud.name, "trouble").text
        assert "host's network" in said
        assert ("http-put-response-hop-limit 2" in said) == (cloud.name == "aws")


def test_a_service_that_is_switched_off_is_said(cloud, listen, monkeypatch):
    from fakes.serving import Reply

    with cloud.fake() as fake:
        monkeypatch.setattr(fake, "reply", lambda asked: Reply(403, "Forbidden"))
        assert "switched off" in listen(*cloud.sources(cloud.env(fake))).fares(cloud.name, "trouble").text


@pytest.mark.parametrize("status", [200, 404, 405, 500])
def test_a_service_of_version_1_only(cloud, listen, monkeypatch, status):
    from fakes.serving import Reply

    with cloud.fake() as fake:
        whole, fake.optional = fake.reply, True
        monkeypatch.setattr(
            fake, "reply", lambda asked: Reply(status) if asked.method == "PUT" else whole(asked)
        )
        listen(*cloud.sources(cloud.env(fake))).fares(cloud.name, "ok")
