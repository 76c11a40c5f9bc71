"""What agents say before it is known which program they are of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ckptd import protocol
from ckptd.daemon.conversation import EARLY, Conversation

HELLO = protocol.Hello(7, 0, 1, ["train.py"], "3.11.7")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, str]]:
    """What was answered: by whom it was said, and what."""
    heard: list[tuple[bytes, str]] = []

    def hello(self: Conversation, attempt: Any, peer: bytes, message: protocol.Hello) -> None:
        attempt.peer = peer
        heard.append((peer, "Hello"))

    monkeypatch.setattr(Conversation, "_hello", hello)
    return heard


def conversation(heard: list[tuple[bytes, str]]) -> tuple[Conversation, Any]:
    context: Any = SimpleNamespace(attempt=None, server=SimpleNamespace(nonsense=0))
    dumps: Any = SimpleNamespace(dumped=lambda attempt, message: heard.append((attempt.peer, message.dump)))
    return Conversation(context, dumps, lambda attempt: None), context


def test_what_was_said_before_the_program_was_known_is_answered_then(heard: list[tuple[bytes, str]]):
    talk, context = conversation(heard)
    talk.on_message(b"agent", HELLO)
    talk.on_message(b"stranger", protocol.Dumped("0", "/dev/shm/x", 5, 0.1))
    talk.on_message(b"agent", protocol.Dumped("1", "/dev/shm/y", 5, 0.1))
    assert heard == []
    context.attempt = SimpleNamespace(peer=None)
    talk.begin()
    assert heard == [(b"agent", "Hello"), (b"agent", "1")]
    talk.begin()
    assert len(heard) == 2


def test_who_floods_is_cut_short(heard: list[tuple[bytes, str]]):
    talk, context = conversation(heard)
    for number in range(3 * EARLY):
        talk.on_message(b"%d" % (number % (2 * EARLY)), HELLO)
    for _ in range(3 * EARLY):
        talk.on_message(b"1", protocol.Dumped("1", "", 5, 0.1))
    context.attempt = SimpleNamespace(peer=None)
    talk.begin()
    assert len({peer for peer, _ in heard}) == EARLY
    assert sum(peer == b"1" for peer, _ in heard) <= EARLY
