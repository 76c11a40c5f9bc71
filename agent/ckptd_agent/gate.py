"""Which processes of a job are left alone, told from their command line and environment only.

Imported at the start of every Python of a job: nothing here may cost anything.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

HELPER_MODULES = (
    "IPython", "ckptd", "ckptd_agent", "ensurepip", "ipykernel", "ipykernel_launcher", "jupyter", "pip",
    "torch._inductor.compile_worker", "torch.distributed.launch", "torch.distributed.run", "venv",
    "virtualenv",
)  # fmt: skip
"""``-m`` modules that are not a training process, or (launchers) not yet: the ranks they start are."""
HELPER_PROGRAMS = (
    "ckptd", "ipython", "ipython3", "jupyter", "jupyter-lab", "jupyter-notebook", "pip", "pip3", "torchrun",
    "virtualenv",
)  # fmt: skip
"""Scripts of that sort, by their names."""


class Command(NamedTuple):
    """What an interpreter was asked to run."""

    kind: str
    """'script', 'module', 'code' (-c) or 'stdin' (also: interactive)."""
    target: str
    """Path of the script or name of the module, as given."""


def command(argv: list[str]) -> Command:
    """Take the interpreter's own options off ``sys.orig_argv``."""
    rest = iter(argv[1:])
    for word in rest:
        if word == "--check-hash-based-pycs":
            next(rest, None)
        elif word == "--":
            return Command("script", next(rest, ""))
        elif word == "-" or not word.startswith("-"):
            return Command("stdin", "") if word in ("-", "") else Command("script", word)
        elif not word.startswith("--"):
            for place, letter in enumerate(word[1:], 2):
                if letter in "cmWX":  # takes the rest of the word, or the next one
                    value = word[place:] or next(rest, "")
                    if letter in "cm":
                        return Command("code", value) if letter == "c" else Command("module", value)
                    break
    return Command("stdin", "")


def why_not(order: Command) -> str | None:
    """Why this process is left alone; None for one that may come to train."""
    if claimed_by_another():
        return "it was started by the training process"
    if order.kind in ("code", "stdin"):
        return f"a program that is not in a file ({order.kind}) can't be followed"
    if order.kind == "module":
        # `python -m pip.__main__`, `-m ipykernel.kernelapp` and the like as well
        if any(order.target == name or order.target.startswith(name + ".") for name in HELPER_MODULES):
            return f"-m {order.target} does not train"
        return None
    name = os.path.basename(order.target.rstrip("/"))
    if name in HELPER_PROGRAMS or "/torch/_inductor/compile_worker/" in order.target:
        return f"{name} does not train"
    return None


def claimed_by_another() -> bool:
    """A process above this one is armed. (After an exec, the same process may arm again.)"""
    return os.environ.get("CKPTD_CLAIMED", str(os.getpid())) != str(os.getpid())


def claim() -> None:
    """From here on no process below this one takes itself for the training process."""
    os.environ["CKPTD_CLAIMED"] = str(os.getpid())


def tidy_pythonpath(folder: str, keep: bool) -> None:
    """Name the bootstrap ``folder`` once in PYTHONPATH, or not at all; leave the user's own entries."""
    if "PYTHONPATH" not in os.environ:
        return
    entries = os.environ["PYTHONPATH"].split(os.pathsep)
    left: list[str] = []
    for entry in entries:
        if not entry or os.path.realpath(entry) != folder:
            left.append(entry)
        elif keep:
            left.append(entry)
            keep = False
    if left:
        os.environ["PYTHONPATH"] = os.pathsep.join(left)
    else:
        del os.environ["PYTHONPATH"]


def was_checkpointed(folder: str) -> bool:
    """This process, and not a launcher in between, is the one that the checkpoint in ``folder`` is of.

    Raises:
        OSError, ValueError, KeyError: the manifest can't be read or does not say.
    """
    return bool(facts(folder)["orig_argv"] == sys.orig_argv)


def facts(folder: str) -> dict[str, Any]:
    """What the manifest of a checkpoint says of the program; raises OSError, ValueError, KeyError."""
    import json

    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)["facts"]
    return found
