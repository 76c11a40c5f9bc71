"""What happens after an attempt has ended: relaunch or exit, when, and with which words. Pure functions."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from ckptd.errors import STOPPED, RefusedError
from ckptd.settings import signal_name
from ckptd.states import FAILED, FINISHED, REFUSED
from ckptd.states import STOPPED as STATE_STOPPED

MAX_DELAY = 60.0
"""Seconds; restarts are never further apart."""
_BY_HAND = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE})
"""Deaths that somebody (or the reader of a pipe) chose: as ordinary as an exit code, and never restarted."""


@dataclass(frozen=True)
class Ending:
    """An attempt that is over, with all that the decision looks at."""

    status: int
    """0 to 255, or minus the signal's number."""
    reachable: bool = True
    """The command is one that the agent can get into."""
    hello: bool = False
    """The agent was there."""
    resuming: bool = False
    """It had a checkpoint to resume from, and ended before it had resumed."""
    refused: str = ""
    """Why the agent would not resume."""
    damaged: bool = False
    """Its checkpoint is not what was written: an older one may do."""
    noticed: bool = False
    """A signal had asked the process to end, and saving for it had not failed."""
    stopping: bool = False
    """ckptd itself was asked to stop."""
    passed_on: bool = False
    """The user gave up waiting: the interrupt went to the job."""
    saved: bool = False
    """A checkpoint was committed for that notice or stop."""
    killed: bool = False
    """The deadline passed, and ckptd ended the process."""
    finished: bool = False
    """The program came to its end by itself, and not because of a notice; the interpreter was tidying up."""
    unknown: bool = False
    """Nobody knows the status: the ckptd that started it is gone."""
    has_checkpoint: bool = False
    """There is a checkpoint of this run to go on from."""
    progressed: bool = False
    """There is one with more steps than at the last restart."""


@dataclass(frozen=True)
class Decision:
    """What to do now."""

    relaunch: bool
    status: int = 0
    """Exit status of ckptd, if it doesn't relaunch."""
    state: str = FAILED
    """The job's state, if it doesn't relaunch."""
    delay: float = 0.0
    """Seconds to wait before the relaunch."""
    restarts: int = 0
    """Restarts without progress, this one included."""
    why: str = ""
    """A sentence for the user and the record; '' when there is nothing to say."""


def shell_status(status: int) -> int:
    """The exit status by which a shell reports this ending: 128+n for signal n."""
    return status if status >= 0 else 128 - status


def describe(status: int) -> str:
    """An ending as the tail of 'the job ...'."""
    if status < 0:
        return f"was killed by {signal_name(-status)}"
    return "ended normally" if status == 0 else f"exited with status {status}"


def describe_unknown() -> str:
    """The same, of a program that was not our child."""
    return "has ended (how is not known: it was started by a ckptd that was killed)"


def restart_delay(restarts: int, base: float) -> float:
    """Seconds before the ``restarts``-th restart (from 1) without progress."""
    return float(min(base * 2.0 ** min(max(restarts - 1, 0), 30), MAX_DELAY))


def decide(end: Ending, *, restarts: int, max_restarts: int, base_delay: float) -> Decision:
    """Decide on an attempt that has ended; ``restarts`` is how many there were without progress."""
    if end.damaged and not end.stopping:
        return Decision(relaunch=True, restarts=restarts)
    if end.refused:
        return Decision(relaunch=False, status=RefusedError.status, state=REFUSED, why=end.refused)
    if end.finished and end.status <= 0:
        # A signal that came behind the program's last line is its end, as without ckptd, and no crash.
        return Decision(relaunch=False, status=shell_status(end.status), state=FINISHED)
    if end.stopping:
        return _after_stop(end)
    if end.noticed and (end.saved or end.resuming):
        return Decision(relaunch=True, restarts=0 if end.progressed else restarts)
    if end.unknown and not end.has_checkpoint:
        return Decision(relaunch=False, status=1, why=f"the job {describe_unknown()}")
    if end.status == 0:
        return Decision(relaunch=False, status=0, state=FINISHED)
    return _after_death(end, restarts, max_restarts, base_delay)


def _after_stop(end: Ending) -> Decision:
    own = shell_status(end.status)
    if end.status == 0 and not end.saved and not end.resuming:
        return Decision(relaunch=False, status=0, state=FINISHED)  # it was faster than the request
    if end.passed_on:
        state = STATE_STOPPED if end.has_checkpoint else FAILED
        return Decision(relaunch=False, status=own, state=state, why=f"the job {describe(end.status)}")
    if end.has_checkpoint:
        return Decision(relaunch=False, status=STOPPED, state=STATE_STOPPED)
    if not end.hello:
        return Decision(relaunch=False, status=own)  # the signal went to the program, as without ckptd
    why = f"the job {describe(end.status)} before anything could be saved"
    return Decision(relaunch=False, status=own or 1, why=why)


def _after_death(end: Ending, restarts: int, max_restarts: int, base_delay: float) -> Decision:
    own = shell_status(end.status)
    by_signal = end.status < 0 or end.killed
    if -end.status in _BY_HAND or (not by_signal and not end.has_checkpoint):
        return Decision(relaunch=False, status=own)
    what = "did not leave in time and was killed" if end.killed else describe(end.status)
    if end.unknown:
        what = describe_unknown()
    if not end.reachable and not end.hello:
        return Decision(relaunch=False, status=own, why=f"the job {what}")
    done = 0 if end.progressed else restarts
    if done >= max_restarts:
        after = f" after {done} restart{'s' if done != 1 else ''} without progress" if done else ""
        return Decision(relaunch=False, status=own, why=f"the job {what}{after}: not restarted")
    delay = restart_delay(done + 1, base_delay)
    return Decision(relaunch=True, delay=delay, restarts=done + 1, why=f"the job {what}")
