"""Sizes and times in words."""

from __future__ import annotations

import time


def bytes_text(count: int) -> str:
    """A number of bytes: '512 B', '1.5 GB' (powers of 1000)."""
    if count < 1000:
        return f"{count} B"
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"


def ago_text(then: float, now: float) -> str:
    """How long ago, both in Unix seconds: '12 s ago', '3 min ago', '5 h ago', '2 d ago'."""
    seconds = now - then
    if seconds < -1:
        return "in the future"  # another host's clock; a number would look like a fact
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def clock_text(then: float) -> str:
    """A moment (Unix seconds) as local time, '2026-01-31 12:34:56'."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
