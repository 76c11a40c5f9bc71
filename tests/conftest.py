"""What all tests share."""

from __future__ import annotations

import os
import random
import signal

import pytest

SEED = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))
os.environ["TEST_SEED"] = str(SEED)  # for the processes that pytest-xdist starts

# In a shell's background, or below nohup, these are ignored, and so they would be by all that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


def pytest_report_header() -> str:
    return f"seed: {SEED} (TEST_SEED={SEED} draws the same again)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("failed"):  # again, beside the failures, and with -q too
        terminalreporter.write_line(pytest_report_header())


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that are this test's own and the same for the same seed."""
    return random.Random(f"{SEED} {request.node.nodeid}")
