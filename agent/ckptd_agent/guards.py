"""During a replay the program must not be heard, and must not touch the files of the first run."""

from __future__ import annotations

import builtins
import functools
import gc
import io
import os
import pathlib
import queue
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any

from ckptd_agent import commands, libraries, link, opened

_muted: list[tuple[int, int]] = []
_saved: list[tuple[Any, str, Any]] = []
_real: dict[Any, Any] = {}
"""Guard to what it stands before. Guards outlive the replay where the program or a library has kept one (a
logging handler keeps ``open``): from then on they hand through."""
_on = False
_made_folders: list[str] = []
_CHANGING = (
    "remove",
    "unlink",
    "rmdir",
    "rename",
    "replace",
    "truncate",
    "link",
    "symlink",
    "chmod",
    "utime",
)
"""Functions of os that change what is there, whatever they are asked for."""


def begin() -> None:
    """Mute stdout and stderr, and put guards before everything that changes files."""
    global _on
    _on = True
    _mute()
    real_mkdir, real_os_open = os.mkdir, os.open

    def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        if not os.path.isdir(path):
            real_mkdir(path, *args, **kwargs)
            _made_folders.append(os.path.abspath(os.fsdecode(path)))

    def os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and not _is_special(path):
            return os.memfd_create("ckptd-replay", os.MFD_CLOEXEC)
        return real_os_open(path, flags, *args, **kwargs)

    guards: dict[str, Callable[..., Any]] = dict.fromkeys(_CHANGING, _do_nothing)
    guards.update(mkdir=mkdir, open=os_open)
    _replace(builtins, "open", _open)
    _replace(io, "open", _open)
    for name, guard in guards.items():
        _replace(os, name, guard)
    for name in ("rmtree", "move", "copyfile", "copystat", "copymode"):
        _replace(shutil, name, _do_nothing)
    real_get = queue.Queue.get
    _replace(
        queue.Queue, "get", lambda self, *_, **__: real_get(self, False)
    )  # nobody would ever put anything
    keeper = getattr(pathlib, "_NormalAccessor", None)  # Python 3.10's has its own references
    if keeper is not None:
        for name, guard in {**guards, "open": _open}.items():
            if hasattr(keeper, name):
                _replace(keeper, name, guard, static=True)
    for owner, name, guard in commands.guards():
        _replace(owner, name, guard)
    libraries.begin(_replace)


def guard_torch() -> None:
    """What torch does otherwise on what is restored: called once there is something."""
    import torch

    real_backward = torch.autograd.backward

    def backward(*args: Any, **kwargs: Any) -> None:
        """On variables that are restored already it may have no graph; gradients are restored in the end."""
        with suppress(RuntimeError):
            real_backward(*args, **kwargs)

    _replace(torch.autograd, "backward", backward)
    real_add = torch.optim.Optimizer.add_param_group

    def add_param_group(self: Any, param_group: dict[str, Any]) -> None:
        """What leads to a loop on the path is done again on an optimizer that has been restored already."""
        params = param_group["params"]
        new = [params] if isinstance(params, torch.Tensor) else list(params)
        known = {id(each) for group in self.param_groups for each in group["params"]}
        if not (new and all(id(each) in known for each in new)):
            real_add(self, {**param_group, "params": new})

    _replace(torch.optim.Optimizer, "add_param_group", add_param_group)


def end(*, in_child: bool = False) -> None:
    """The program is on its own again; what it prints is seen. A forked child leaves the folders alone.

    Raises RefusedError: what the replay has opened can't be what the program had open.
    """
    global _on
    if in_child and commands.is_starting():  # it is about to be a command of the replay's
        return
    if not in_child:
        libraries.check()
    _on = False
    for owner, name, value in reversed(_saved):
        setattr(owner, name, value)
    _saved.clear()
    libraries.end()
    if not in_child:
        _give_back_the_real_ones()
        _tell_of_commands()
    for folder in [] if in_child else reversed(_made_folders):
        try:
            os.rmdir(folder)
        except OSError:  # it is in use by what was restored
            continue
    _made_folders.clear()
    _unmute()


def _tell_of_commands() -> None:
    """A command that lives on can't be given back what was taken from it."""
    for command in commands.still_running():
        from ckptd.protocol import Said

        link.send(
            Said(f"{command} runs since before the loop: it was started anew, and can't write to files")
        )


def genuine(value: Any) -> Any:
    """What a guard stands before; anything else is itself."""
    return _real.get(value, value) if type(value) is FunctionType else value


def _replace(owner: Any, name: str, guard: Callable[..., Any], *, static: bool = False) -> None:
    real = getattr(owner, name)
    if genuine(real) is not real:  # it was handed on from a module that has been guarded
        return

    @functools.wraps(real)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return guard(*args, **kwargs) if _on else real(*args, **kwargs)

    _real[guarded] = real
    _saved.append((owner, name, vars(owner)[name]))
    setattr(owner, name, staticmethod(guarded) if static else guarded)


def _give_back_the_real_ones() -> None:
    """Put the genuine functions where guards were kept: under a name, in an attribute, in a list."""
    for holder in gc.get_referrers(*_real):
        if holder is _real:
            continue
        if isinstance(holder, list):
            holder[:] = map(genuine, holder)
            continue
        names = holder if isinstance(holder, dict) else getattr(holder, "__dict__", None)
        if isinstance(names, dict):
            for key, value in [*names.items()]:
                if type(value) is FunctionType and value in _real:
                    names[key] = _real[value]


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    """What a replay lets the program do to files."""


def _mute() -> None:
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for fd in (1, 2):
        try:
            kept = os.dup(fd)
        except OSError:  # the job was started without it
            continue
        os.set_inheritable(kept, False)
        os.dup2(null, fd)
        _muted.append((fd, kept))
    os.close(null)


def _unmute() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for fd, kept in _muted:
        os.dup2(kept, fd)
        os.close(kept)
    _muted.clear()


def _is_special(path: Any) -> bool:
    """It is no file of a file system: a descriptor, a device, an entry of /proc."""
    if not isinstance(path, str | bytes | os.PathLike):
        return True
    whole = os.path.abspath(os.fsdecode(path))
    return whole.startswith(("/dev/", "/proc/")) and not whole.startswith("/dev/shm/")


def _open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
    """open(), but what would be written goes into memory; the handle has the name and mode that it would have."""
    if isinstance(file, int) or _is_special(file) or not any(letter in mode for letter in "wax+"):
        return opened.real_open(file, mode, *args, **kwargs)
    kwargs.pop("opener", None)
    fd = os.memfd_create("ckptd-replay", os.MFD_CLOEXEC)
    if "w" not in mode and "x" not in mode:
        try:
            with opened.real_open(file, "rb") as source, opened.real_open(fd, "wb", closefd=False) as copy:
                shutil.copyfileobj(source, copy)
        except FileNotFoundError:
            if "r" in mode:
                os.close(fd)
                raise
        os.lseek(fd, 0, os.SEEK_END if "a" in mode else os.SEEK_SET)
    handle: Any = opened.real_open(fd, mode.replace("x", "w"), *args, **kwargs)
    raw: Any = getattr(handle, "buffer", handle)
    raw = getattr(raw, "raw", raw)
    raw.name = file
    if hasattr(handle, "buffer"):
        handle.mode = mode
    opened.note(handle)
    return handle
