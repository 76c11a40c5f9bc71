"""Starts ckptd's agent in the training process. Every Python below ``ckptd run`` reads this at its start.

It steps out of ``sys.path``, runs the sitecustomize that it hides, and asks the agent whether this process
is the one. Written for any Python 3.6 or later, since interpreters without the agent read it too.
"""

import os
import sys
from importlib.machinery import PathFinder

HERE = os.path.dirname(os.path.realpath(__file__))


def _run_hidden() -> None:
    """Run the sitecustomize that would have been found without us; what it raises goes on to ``site``."""
    spec = PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


def _start() -> None:
    python = f"{sys.prefix}|{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = os.environ.get("CKPTD_ENDPOINT") and os.environ.get("CKPTD_JOB")
    if not wanted or os.environ.get("CKPTD_PYTHON") != python:
        return
    above = os.path.dirname(HERE)  # agent/ of a working tree, or ckptd_agent/ of an installed package
    place = os.path.dirname(above) if os.path.basename(above) == "ckptd_agent" else above
    before = sys.path[:]
    sys.path.insert(0, os.environ.get("CKPTD_AGENT_PATH") or place)
    try:
        from ckptd_agent import arm
    finally:
        sys.path[:] = before
    arm.start(HERE)


def _tell(error: BaseException) -> None:
    if os.environ.get("CKPTD_DEBUG"):
        sys.stderr.write(f"ckptd: the agent was not started: {type(error).__name__}: {error}\n")


try:
    sys.path[:] = [path for path in sys.path if not path or os.path.realpath(path) != HERE]
except BaseException as error:
    _tell(error)
try:
    _run_hidden()
finally:
    try:
        _start()
    except BaseException as error:  # a job is never harmed by its checkpointing
        _tell(error)
