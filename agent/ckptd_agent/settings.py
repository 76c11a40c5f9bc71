"""Settings that a program may change in the middle of its loop, and that lie in no object of its own.

Each is a line in SETTINGS: its name in the checkpoint, how it is read, how it is set. What is read is plain (msgpack)
and read in microseconds; none of it starts CUDA, draws random numbers or makes a tensor. What can't be read, or is not
there in this torch or Python, is left out; at a resume only what differs is set.
"""

from __future__ import annotations

import decimal
import gc
import locale
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import torch

from ckptd_agent import environment, loggers, precision


class Setting(NamedTuple):
    """One setting of the process."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _attribute(name: str, owner: Any, attribute: str) -> Setting:
    """A setting that is an attribute of something."""
    return Setting(name, lambda: getattr(owner, attribute), lambda value: setattr(owner, attribute, value))


# ---- torch ------------------------------------------------------------------------------------


def _anomaly() -> list[bool]:
    return [torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()]


def _flushes_denormals() -> bool:
    """Python's own arithmetic tells: it is done by the same unit, and no dispatch mode of torch's sees it."""
    return sys.float_info.min / 2 == 0.0


def _default_device() -> str | None:
    """What was set, past torch.get_default_device(), which may make a tensor."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else str(context.device)


def _torch_print() -> dict[str, Any]:
    return dict(vars(torch._tensor_str.PRINT_OPTS))


def _set_torch_print(saved: dict[str, Any]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(saved)


# ---- numpy and Python -------------------------------------------------------------------------


def _numpy() -> Any:
    return sys.modules["numpy"]


_CALLED = ("formatter", "override_repr")
"""Of numpy's print options, those that hold functions: they stay as the program has made them."""


def _numpy_print() -> dict[str, Any]:
    return {name: value for name, value in _numpy().get_printoptions().items() if name not in _CALLED}


def _set_numpy_print(saved: dict[str, Any]) -> None:
    _numpy().set_printoptions(**{**_numpy().get_printoptions(), **saved})  # else it forgets the functions


_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _decimal() -> dict[str, Any]:
    context = decimal.getcontext()
    raised = {kind: sorted(s.__name__ for s, on in getattr(context, kind).items() if on) for kind in _SIGNALS}
    return {**{name: getattr(context, name) for name in _DECIMAL}, **raised}


_SIGNALS = ("flags", "traps")


def _set_decimal(saved: dict[str, Any]) -> None:
    context = decimal.getcontext()
    for name in _DECIMAL:
        setattr(context, name, saved[name])
    for kind in _SIGNALS:
        signals = getattr(context, kind)
        for signal in list(signals):
            signals[signal] = signal.__name__ in saved[kind]


def _zone() -> list[Any]:
    """What time.tzset() has made of TZ: setting TZ alone does nothing."""
    return [*time.tzname, time.timezone, time.altzone]


def _umask() -> int:
    """As the kernel tells it: os.umask would have to set it, and a thread might make a file meanwhile."""
    with open("/proc/self/status", "rb") as file:
        return next(int(line[6:], 8) for line in file if line.startswith(b"Umask:"))


_CUDA: Any = torch.backends.cuda
_CUBLAS: Any = torch.backends.cuda.matmul
_REDUCTION = "reduced_precision_reduction"

SETTINGS = [
    Setting("environ", environment.changed, environment.change),
    Setting("zone", _zone, lambda _: time.tzset()),
    Setting("loggers", loggers.levels, loggers.set_levels),
    Setting("decimal", _decimal, _set_decimal),
    Setting("locale", lambda: locale.setlocale(locale.LC_ALL), lambda v: locale.setlocale(locale.LC_ALL, v)),
    Setting("gc_threshold", lambda: [*gc.get_threshold()], lambda v: gc.set_threshold(*v)),
    Setting("recursion", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("switch_interval", sys.getswitchinterval, sys.setswitchinterval),
    Setting("umask", _umask, os.umask),
    Setting("numpy_print", _numpy_print, _set_numpy_print),
    Setting("numpy_errors", lambda: _numpy().geterr(), lambda v: _numpy().seterr(**v)),
    Setting("torch_print", _torch_print, _set_torch_print),
    Setting("anomaly", _anomaly, lambda v: torch.set_anomaly_enabled(*v)),
    Setting("flush_denormal", _flushes_denormals, torch.set_flush_denormal),
    Setting("device", _default_device, torch.set_default_device),
    Setting("warn_always", torch.is_warn_always_enabled, torch.set_warn_always),
    Setting("precisions", precision.of_backends, precision.set_backends),
    Setting("cudnn_tf32", precision.old_cudnn, precision.set_old_cudnn),
    Setting("flash_sdp", lambda: _CUDA.flash_sdp_enabled(), lambda v: _CUDA.enable_flash_sdp(v)),
    Setting("math_sdp", lambda: _CUDA.math_sdp_enabled(), lambda v: _CUDA.enable_math_sdp(v)),
    Setting("cudnn_sdp", lambda: _CUDA.cudnn_sdp_enabled(), lambda v: _CUDA.enable_cudnn_sdp(v)),
    Setting(
        "efficient_sdp",
        lambda: _CUDA.mem_efficient_sdp_enabled(),
        lambda v: _CUDA.enable_mem_efficient_sdp(v),
    ),
    _attribute("cudnn", torch.backends.cudnn, "enabled"),
    _attribute("mkldnn", torch.backends.mkldnn, "enabled"),
    _attribute("fp16_accumulation", _CUBLAS, "allow_fp16_accumulation"),
    _attribute("fp16_reduction", _CUBLAS, f"allow_fp16_{_REDUCTION}"),
    _attribute("bf16_reduction", _CUBLAS, f"allow_bf16_{_REDUCTION}"),
    _attribute("fill_uninitialized", torch.utils.deterministic, "fill_uninitialized_memory"),
]
"""The order in which they are set: the environment first, which others read."""


def take() -> dict[str, Any]:
    """All that can be read; raises nothing."""
    found = {}
    for name, read, _ in SETTINGS:
        try:
            found[name] = read()
            msgpack.packb(found[name])
        except Exception:  # whatever a version of torch or numpy has against it
            found.pop(name, None)
    return found


def put(saved: dict[str, Any]) -> list[str]:
    """Set what differs; a sentence for each that can't be set."""
    told = []
    for name, read, write in SETTINGS:
        if name in saved:
            try:
                if not _is(read, saved[name]):
                    write(saved[name])
            except Exception as error:
                told.append(
                    f"the setting {name!r} is not as at the checkpoint: {type(error).__name__}: {error}"
                )
    return told


def _is(read: Callable[[], Any], value: Any) -> bool:
    try:
        return bool(read() == value)
    except Exception:  # it can't be read as it is now
        return False
