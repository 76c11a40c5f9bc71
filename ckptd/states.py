"""The states of a job, and every way from one to another. Imports nothing.

A job is always in one of these, as its supervisor sees it:

NEW        The record is made, nothing has been started.
CHECKING   Before a start: the newest checkpoint is being verified, the sources compared.
STARTING   The process runs; no agent has said Hello yet (imports, or a program without torch).
REPLAYING  The agent said Hello and resumes: it re-executes, muted, up to the recorded position.
RUNNING    The agent is there and the program trains.
DUMPING    The process was asked to save and to leave; its copy in shared memory isn't complete yet.
SAVING     The copy is complete; the writer is making it durable.
LEAVING    The checkpoint is durable; the process is ending by itself.
ENDING     What is left of the attempt's process tree is being ended.
BACKOFF    No process; a relaunch waits for its delay.
STOPPED    Over: checkpointed and stopped. The same command goes on from there.
FINISHED   Over: the program ended by itself, with status 0.
FAILED     Over: the program ended otherwise and is not restarted.
REFUSED    Over: a resume would not have been exact; nothing was changed.
LOST       Never entered: what a reader calls a live state whose supervisor is gone.

Transitions (from -> to: when)

NEW       -> CHECKING   a start is prepared
CHECKING  -> STARTING   the process was spawned
CHECKING  -> REFUSED    sources changed, or the checkpoint can't be used
CHECKING  -> STOPPED    a stop was asked for before the process was there
CHECKING  -> FINISHED   the program had come to its end while its ckptd was gone
CHECKING  -> FAILED     no checkpoint is whole, or the command can't be started
STARTING  -> RUNNING    Hello
STARTING  -> REPLAYING  Hello, with a checkpoint to resume from
REPLAYING -> RUNNING    Resumed
STARTING, RUNNING, REPLAYING -> DUMPING   a notice, or a stop
DUMPING   -> SAVING     Dumped
DUMPING   -> RUNNING    Undumped: the program goes on
SAVING    -> LEAVING    the commit is done
SAVING    -> RUNNING    the commit failed: the program goes on
any with a process -> ENDING    it exited, or its deadline passed
ENDING    -> SAVING     it exited before its copy was durable: the commit still happens
SAVING    -> ENDING     that commit is done or has failed
ENDING    -> CHECKING   relaunch at once (an interruption)
ENDING    -> BACKOFF    relaunch after a delay (it died by itself)
BACKOFF   -> CHECKING   the delay is over
BACKOFF   -> STOPPED    a stop was asked for and there is a checkpoint
BACKOFF   -> FAILED     a stop was asked for and there is none
ENDING    -> STOPPED, FINISHED, FAILED, REFUSED   no relaunch

Periodic checkpoints change no state: the program runs on while they are taken and written.
"""

NEW = "new"
CHECKING = "checking"
STARTING = "starting"
REPLAYING = "replaying"
RUNNING = "running"
DUMPING = "dumping"
SAVING = "saving"
LEAVING = "leaving"
ENDING = "ending"
BACKOFF = "backoff"
STOPPED = "stopped"
FINISHED = "finished"
FAILED = "failed"
REFUSED = "refused"
LOST = "lost"

WITH_PROCESS = frozenset({STARTING, REPLAYING, RUNNING, DUMPING, SAVING, LEAVING})
"""The main process of an attempt may be alive."""

LIVE = WITH_PROCESS | {NEW, CHECKING, ENDING, BACKOFF}
"""A supervisor is at work."""

OVER = frozenset({STOPPED, FINISHED, FAILED, REFUSED})
"""Nothing happens until somebody starts the job again."""

ALL = LIVE | OVER | {LOST}

TRANSITIONS = {
    NEW: frozenset({CHECKING}),
    CHECKING: frozenset({STARTING, REFUSED, STOPPED, FAILED, FINISHED}),
    STARTING: frozenset({RUNNING, REPLAYING, DUMPING, ENDING}),
    REPLAYING: frozenset({RUNNING, DUMPING, ENDING}),
    RUNNING: frozenset({DUMPING, ENDING}),
    DUMPING: frozenset({SAVING, RUNNING, ENDING}),
    SAVING: frozenset({LEAVING, RUNNING, ENDING}),
    LEAVING: frozenset({ENDING}),
    ENDING: frozenset({SAVING, CHECKING, BACKOFF, STOPPED, FINISHED, FAILED, REFUSED}),
    BACKOFF: frozenset({CHECKING, STOPPED, FAILED}),
    STOPPED: frozenset(),
    FINISHED: frozenset(),
    FAILED: frozenset(),
    REFUSED: frozenset(),
    LOST: frozenset(),
}


def allowed(old: str, new: str) -> bool:
    """Whether a job may go from ``old`` to ``new``."""
    return new in TRANSITIONS[old]
