import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.errors import UsageError
from ckptd.settings import Every, parse_duration, parse_every, parse_signals, signal_name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("25s", 25), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("90", 90), (" 2 min ", 120),
     ("200ms", 0.2), ("0", 0)],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10x", "-5", "10m30", "1 2", "1m m", "inf", "nan", "1e3"])
def test_no_durations(text):
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_usage_error(text):
    try:
        assert parse_duration(text) >= 0
    except UsageError:
        pass  # the other allowed outcome


def test_every():
    assert parse_every("500steps") == Every(steps=500)
    assert parse_every("1 step") == Every(steps=1)
    assert parse_every("Auto") == Every(chosen=True)
    assert parse_every("never") == Every()
    assert parse_every("10m") == Every(seconds=600)
    for text in ("0", "0steps", "soon", "steps", ""):
        with pytest.raises(UsageError):
            parse_every(text)


def test_signals():
    assert parse_signals("TERM") == (signal.SIGTERM,)
    assert parse_signals("sigterm, usr2,TERM") == (signal.SIGTERM, signal.SIGUSR2)
    for text in ("", ",", "KILL", "STOP", "CHLD", "15", "NOSUCH", "_DFL", "SIG_IGN"):
        with pytest.raises(UsageError):
            parse_signals(text)


def test_signal_names():
    assert signal_name(15) == "SIGTERM"
    assert signal_name(99) == "signal 99"
