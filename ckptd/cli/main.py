"""The command ``ckptd``: finds the verb, and turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from ckptd import __version__
from ckptd.errors import CkptdError

INTERRUPTED = 130
"""As a shell reports a death by SIGINT."""

VERBS = {
    "run": "Run a command, and carry it over interruptions.",
    "ps": "List jobs.",
    "status": "Show how a job stands, and what a failure now would cost.",
    "logs": "Show what a detached job has written.",
    "attach": "Show a detached job's output until it ends.",
    "dump": "Save a running job now.",
    "stop": "Save a running job, and end it.",
    "resume": "Have the daemon go on with a job.",
    "daemon": "Keep the jobs of a store running, over reboots too.",
    "ls": "List checkpoints.",
    "show": "Show what is in a checkpoint.",
    "diff": "Compare two checkpoints.",
    "verify": "Check that checkpoints are what their manifests say.",
    "export": "Write a checkpoint's tensors for other programs.",
    "copy": "Copy checkpoints into another store.",
    "pin": "Keep a checkpoint whatever the policy says.",
    "rm": "Remove checkpoints by name.",
    "forget": "Remove checkpoints by a policy.",
    "prune": "Free what nothing refers to.",
    "unlock": "Say who holds which jobs, and remove stale leases.",
    "check": "Say of a program, without running it, what can be saved.",
    "doctor": "Say whether a job's state can be saved in the time there is here.",
    "drill": "Play a notice to a running job, and measure whether it is saved in time.",
    "prove": "Run a command with and without interruptions, and compare.",
}
"""Each verb is the module ckptd.cli.VERB with the click command of that name. Imported only when used."""


OF_STORES = frozenset(VERBS) & {
    "ps", "ls", "show", "diff", "verify", "export", "copy", "pin", "rm", "forget", "prune", "unlock",
}  # fmt: skip
"""Verbs whose --json is JSON even where they fail."""


class Verbs(click.Group):
    """A group whose verbs cost nothing until one is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"ckptd.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs for ``--help``, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status of 'run': the job's own, or 75: checkpointed and stopped, start me again. 2 usage, "
    "10 no store, 11 locked, 12 no daemon, 13 checkpoint damaged, 14 refused to resume.",
)
@click.version_option(__version__, prog_name="ckptd", message="%(prog)s %(version)s")
def ckptd() -> None:
    """Carry PyTorch training over interruptions, without changing a line of it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    before = _answers()
    _act_by_default()
    try:
        result = ckptd.main(args=words, prog_name="ckptd", standalone_mode=False)
    except CkptdError as error:
        return error.status if error.told else _report(words, str(error), error.status, before)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "ckptd"
        return _report(
            words, f"{error.format_message().rstrip('.')}: see {path} --help", error.exit_code, before
        )
    except click.ClickException as error:
        return _report(words, error.format_message(), error.exit_code, before)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # who read it has seen enough
        return 0
    except OSError as error:
        _drop_output()
        return _report(
            words[:1], f"{error.filename or 'the output'}: {(error.strerror or str(error)).lower()}", 1
        )
    return result if isinstance(result, int) else 0


def _act_by_default() -> None:
    """Let SIGTERM and SIGHUP end us until a verb does better: the kernel doesn't, in a container's first process."""
    for number in (signal.SIGTERM, signal.SIGHUP) if os.getpid() == 1 else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _drop_output() -> None:
    """Python would complain at exit when it flushes the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answers() -> int:
    """How often a verb has printed JSON; none has unless it is imported."""
    return int(getattr(sys.modules.get("ckptd.cli.output"), "printed", 0))


def _report(words: Sequence[str], message: str, status: int, before: int = 0) -> int:
    line = "".join(letter if letter.isprintable() else " " for letter in message)
    print(f"ckptd: {line}", file=sys.stderr)
    asked = words[:1] and words[0] in OF_STORES and ("--json" in words or os.environ.get("CKPTD_JSON"))
    if asked and _answers() == before:  # else there is one already
        click.echo(json.dumps({"error": line, "status": status}, indent=1))
    return status
