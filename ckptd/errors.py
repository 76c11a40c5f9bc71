"""Every error that ckptd reports to a person, each with the exit status that it owns.

A message names the thing that is wrong and the way out, in one line. The command line prints it
as ``ckptd: MESSAGE`` and exits with the class's ``status``; no traceback is shown.
"""

from __future__ import annotations

STOPPED = 75
"""Exit status of ``ckptd run`` for "checkpointed and stopped, start me again" (EX_TEMPFAIL)."""


class CkptdError(Exception):
    """Something that ckptd tells a person in one line."""

    status = 1
    told = False
    """It has been said where ckptd speaks: it isn't said again."""


class UsageError(CkptdError):
    """The command line can't be taken as it stands."""

    status = 2


class CommandUnusableError(CkptdError):
    """The job's command is there but can't be run; the status is a shell's."""

    status = 126


class CommandNotFoundError(CkptdError):
    """The job's command isn't there; the status is a shell's."""

    status = 127


class PartlyDoneError(CkptdError):
    """Some of what was asked for is done, some is not."""

    status = 3


class NoStoreError(CkptdError):
    """The store is not there, is not a store, can't be written or is not ours to use."""

    status = 10


class RemoteError(NoStoreError):
    """A remote can't be reached, refuses, or has no room. ``again``: it may be otherwise in a while."""

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class LockedError(CkptdError):
    """Another process holds the job."""

    status = 11


class NoDaemonError(CkptdError):
    """No supervisor answers."""

    status = 12


class DamagedError(CkptdError):
    """A checkpoint is not what its manifest says."""

    status = 13


class RefusedError(CkptdError):
    """A resume would not be exact, or can't be done; nothing was changed."""

    status = 14


class DiffersError(CkptdError):
    """A run that was stopped is not what a run is that was not (``ckptd prove``)."""

    status = 15


class NotDeterministicError(CkptdError):
    """The program differs from itself, without ckptd having done anything (``ckptd prove``)."""

    status = 16


class NotDrilledError(CkptdError):
    """A notice can't be rehearsed with a job as it stands, or what followed could not be measured."""

    status = 17


class DumpFailedError(CkptdError):
    """A dump could not be made durable; training goes on and older checkpoints are as they were."""

    status = 1


class ProtocolError(CkptdError):
    """A message on a socket is not one of ours."""

    status = 1
