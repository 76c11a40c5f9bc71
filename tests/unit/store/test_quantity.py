"""Sizes and times in words."""

from __future__ import annotations

import pytest

from ckptd.store.quantity import ago_text, bytes_text, clock_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1536, "1.5 kB"), (99_949, "99.9 kB"),
        (99_950, "100 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (4_196_000, "4.2 MB"),
        (10**9, "1.0 GB"), (25 * 10**11, "2.5 TB"), (10**16, "10000 TB"),
    ],
)  # fmt: skip
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s ago"), (-0.5, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7199, "119 min ago"),
        (7200, "2 h ago"), (47 * 3600, "47 h ago"), (48 * 3600, "2 d ago"), (-5, "in the future"),
    ],
)  # fmt: skip
def test_ago(seconds, text):
    assert ago_text(1000.0, 1000.0 + seconds) == text


def test_clock():
    assert clock_text(1760000000.0).startswith("2025-10-0")
    assert clock_text(1e300) == "an unknown time"
