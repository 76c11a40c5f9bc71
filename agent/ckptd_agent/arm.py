"""Starts the agent: the finders at the start of the process, the rest when it begins to import torch.

So a process that never imports torch has no thread, no socket and no signal handler of ours. A process
that resumes is armed at its start, for then it is known to train.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ckptd_agent import gate

REFUSED = 14
"""Exit status of a resume that can't be done; ckptd.errors.RefusedError has it too."""

_started = 0
_armed = 0
"""Process ids, so that a forked child does not take itself for its parent; -1: it was tried and failed."""


def start(bootstrap: str = "", script: str | None = None) -> None:
    """Start the agent if this is a process for it; called by sitecustomize, maybe more than once.

    ``bootstrap`` is the folder of sitecustomize.py. ``script`` is given by ``python -m ckptd_agent``.
    """
    global _started
    order = gate.command(sys.orig_argv)
    gate.tidy_pythonpath(bootstrap, keep=not gate.claimed_by_another())
    why = gate.why_not(order) if script is None else None
    if gate.claimed_by_another():
        _join()
    if why or _started == os.getpid():
        tell(f"left alone: {why or 'already started'}")
        return
    _started = os.getpid()
    if script is None:
        script = order.target if order.kind == "script" else ""
    folder = os.environ.get("CKPTD_RESUME", "")
    if folder and _is_ours(folder):
        _resume(script, folder)
    else:
        _install(script)


def _join() -> None:
    """Be a helper of the training process, which lives through a notice with it."""
    try:
        if "CKPTD_NOTICE_PAGE" in os.environ:
            from ckptd_agent import shield

            shield.join(int(os.environ["CKPTD_CLAIMED"]))
    except Exception as error:
        tell(f"not shielded from notices: {_sentence(error)}")


def _is_ours(folder: str) -> bool:
    try:
        return gate.was_checkpointed(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _refuse(f"{folder}: its manifest can't be used ({_sentence(error)}); --fresh starts over")


def _install(script: str) -> None:
    _provide_ckptd()
    from ckptd_agent.source import finder

    finder.install(script)
    sys.meta_path.insert(0, _TorchWatch())
    if "torch" in sys.modules:  # the user's sitecustomize imported it
        _before_torch()
        _after_torch()


def _resume(script: str, folder: str) -> None:
    """A resume that goes wrong must not turn into a run from the start: that would write over its output."""
    try:
        _install(script)
        arm()
        from ckptd_agent import replay

        replay.begin(folder)
        _give(gate.facts(folder).get("trackers", {}))
    except BaseException as error:
        own = type(error).__module__ == "ckptd.errors"
        why = str(error) if own else f"{folder}: the agent failed to resume it ({_sentence(error)})"
        _refuse(why, damaged=type(error).__name__ == "DamagedError")


def _give(variables: dict[str, str]) -> None:
    """What its experiment trackers are to find in the environment: see ckptd_agent.state.trackers."""
    if variables:
        from ckptd_agent.state import trackers

        trackers.give(variables)


def arm() -> None:
    """Start thread and socket and take over the notice signals."""
    global _armed
    if _armed:
        return
    _armed = os.getpid()
    gate.claim()
    from ckptd.protocol import Hello, Said
    from ckptd_agent import link, signals

    hello = Hello(
        pid=os.getpid(),
        rank=_number("RANK", 0),
        world_size=_number("WORLD_SIZE", 1),
        argv=[word.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for word in sys.orig_argv],
        python=f"{sys.prefix}|{sys.version_info[0]}.{sys.version_info[1]}",
        resume=os.environ.get("CKPTD_RESUME", ""),
    )
    os.register_at_fork(after_in_child=_forget_request)
    why = signals.install(link.start(signals, hello))
    if why:
        link.send(Said(why))


def _forget_request() -> None:
    """A dump that is under way is the parent's: a forked child must not take it at its own next loop."""
    hooks: Any = sys.modules.get("ckptd_agent.loops.hooks")
    if hooks is not None and hooks.replay is None:
        hooks.at_safe_point = None
        hooks.switch(False)


def tell(text: str) -> None:
    """One line for whoever sets CKPTD_DEBUG."""
    if os.environ.get("CKPTD_DEBUG"):
        sys.stderr.write(f"ckptd: {text}\n")


def _refuse(why: str, *, damaged: bool = False) -> NoReturn:
    """End the process before it has done anything."""
    reached = False
    try:
        _provide_ckptd()
        arm()
        from ckptd.protocol import Refused
        from ckptd_agent import link

        link.send(Refused(why, damaged))
        link.flush(2.0)
        reached = link.connected()
    except Exception as error:
        tell(_sentence(error))
    if not reached:
        sys.stderr.write(f"ckptd: {why}\n")
        sys.stderr.flush()
    os._exit(REFUSED)


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else otherwise


def _provide_ckptd() -> None:
    """Import the package ``ckptd`` that belongs to this agent, whatever else is on sys.path."""
    if "ckptd" in sys.modules:
        return
    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # site-packages, or agent/ of a tree
    before = sys.path[:]
    sys.path[:0] = [above, os.path.dirname(above)]
    try:
        import ckptd  # noqa: F401
    finally:
        sys.path[:] = before


# ---- import torch -------------------------------------------------------------------------------


class _TorchWatch:
    """Knows when torch begins to be imported, and when it has been; then it is gone from sys.meta_path.

    A look-up without an import (``importlib.util.find_spec``) changes nothing.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch":
            return None
        for finder in sys.meta_path:
            look = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = look(name, path, target) if look is not None else None
            if spec is not None:
                self._attend(spec)
                return spec
        return None

    def _attend(self, spec: ModuleSpec) -> None:
        """Be called before and after the loader's work, without a trace on the module's loader and spec."""
        loader = spec.loader
        if loader is None or "exec_module" in vars(loader):
            return
        execute = loader.exec_module

        def _call_with_frames_removed(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            _before_torch()
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _after_torch()

        # By this name and file the interpreter leaves the frame out of tracebacks, as it does its own:
        # a torch that can't be imported looks as it would without us.
        code = _call_with_frames_removed.__code__
        _call_with_frames_removed.__code__ = code.replace(co_filename="<frozen importlib._bootstrap>")
        vars(loader)["exec_module"] = _call_with_frames_removed


def _before_torch() -> None:
    global _armed
    try:
        if _started == os.getpid():  # and not a forked child
            arm()
    except Exception as error:
        _armed = -1
        tell(f"not armed: {_sentence(error)}")


def _after_torch() -> None:
    link = sys.modules.get("ckptd_agent.link")
    if _armed != os.getpid():
        return
    try:
        from ckptd_agent import safepoint

        safepoint.install()
        if os.environ.get("CKPTD_DIGESTS"):
            _prove()
        if link is not None:
            link.attach(safepoint)
    except Exception as error:
        tell(f"no engine: {_sentence(error)}")
        if link is not None:
            link.decline(f"the agent could not be started: {_sentence(error)}")


def _prove() -> None:
    """This is one of the runs that ``ckptd prove`` compares."""
    from ckptd_agent import journal

    if os.environ.get("CKPTD_PINS"):
        from ckptd_agent import pins

        pins.install()
    journal.install()


# ---- python -m ckptd_agent SCRIPT ---------------------------------------------------------------


def run_script() -> None:
    """Run the script that the command line names: for interpreters that pay no heed to PYTHONPATH."""
    words = sys.argv[1:]
    if not words:
        sys.stderr.write("ckptd: no script was named: python -m ckptd_agent SCRIPT [ARGUMENTS]\n")
        sys.exit(2)
    supervised = os.environ.get("CKPTD_ENDPOINT") and os.environ.get("CKPTD_JOB")
    if not supervised or gate.claimed_by_another() or not os.path.isfile(words[0]):
        _run_plain(words)
    try:
        start(script=words[0])
    except Exception as error:
        tell(f"the agent was not started: {_sentence(error)}")
        _run_plain(words)
    import runpy

    sys.argv[:] = words
    # As the interpreter does for a path that has an importer; the finder then names the script's folder.
    if getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        sys.path.insert(0, words[0])
    else:
        sys.path[0] = words[0]
    main = vars(sys.modules["__main__"])
    for name in set(main) - {
        "__annotations__",
        "__builtins__",
        *vars(sys.modules[__name__.partition(".")[0]]),
    }:
        del main[name]  # the import at its top; what every module has stays
    runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]


def _run_plain(words: list[str]) -> NoReturn:
    import subprocess

    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    os.execv(sys.executable, [sys.executable, *flags, *words])
