"""Libraries that change files past Python's own functions: in a replay, guards stand before what they do it with.

Some are imported long before the first loop, some never: a guard is put up behind the import of its module, before
anything can be imported from that by name.
"""

from __future__ import annotations

import io
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ckptd.errors import RefusedError
from ckptd_agent import databases

Makers = dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]
"""What a module has, and who makes the guard for it."""
Replace = Callable[[Any, str, Callable[..., Any]], None]
"""Puts a guard into the place of an attribute: guards.replace."""
_in_memory: list[weakref.ref[Any]] = []
"""HDF5 files that are written in a replay."""


def begin(replace: Replace) -> None:
    """Guard what is imported, and what will be."""
    for module in MAKERS:
        if module in sys.modules:
            _guard(sys.modules[module], replace)
    sys.meta_path.insert(0, _Watch(replace))


def check() -> None:
    """Raise RefusedError if what was guarded can't be given back at the end of the replay."""
    for file in [each() for each in _in_memory]:
        if file:  # it is open
            raise RefusedError(
                f"the HDF5 file {file.filename} was open for writing at the checkpoint, and can't be carried over: "
                "open it each time that something is written"
            )


def end() -> None:
    """What is imported from now on is left alone. (What is guarded is given back by guards.)"""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Watch)]
    _in_memory.clear()
    databases.end()


class _Watch:
    """Knows when one of the modules has been imported. A look-up without an import changes nothing."""

    def __init__(self, replace: Replace) -> None:
        self.replace = replace
        self.looking: set[str] = set()
        """What is looked for at the moment: other finders ask all finders, too."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MAKERS or name in self.looking:
            return None
        self.looking.add(name)
        try:
            for finder in [*sys.meta_path]:
                look = None if finder is self else getattr(finder, "find_spec", None)
                spec: ModuleSpec | None = look(name, path, target) if look is not None else None
                if spec is not None:
                    self._attend(spec)
                    return spec
            return None
        finally:
            self.looking.discard(name)

    def _attend(self, spec: ModuleSpec) -> None:
        """Be called behind the loader's work, without a trace on the module's loader and spec."""
        loader: Any = spec.loader
        # One that has a name is this module's alone.
        if getattr(loader, "name", None) != spec.name or "exec_module" in vars(loader):
            return
        execute = loader.exec_module

        def _call_with_frames_removed(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            execute(module)
            if self in sys.meta_path:
                _guard(module, self.replace)

        # By this name and file the interpreter leaves the frame out of tracebacks, as it does its own.
        code = _call_with_frames_removed.__code__
        _call_with_frames_removed.__code__ = code.replace(co_filename="<frozen importlib._bootstrap>")
        vars(loader)["exec_module"] = _call_with_frames_removed


def _guard(module: ModuleType, replace: Replace) -> None:
    for name, make in MAKERS[module.__name__].items():
        holder, _, attribute = name.rpartition(".")
        owner = getattr(module, holder, None) if holder else module
        real = getattr(owner, attribute, None)
        if real is not None:
            replace(owner, attribute, make(real))


# ---- the guards ----------------------------------------------------------------------------------


def _nothing(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: None


def _save(real: Callable[..., Any]) -> Callable[..., Any]:
    """torch.save: what is saved into memory is read again on the way."""

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, io.BytesIO):
            with suppress(Exception):  # what a skipped loop would have made may not be there
                real(obj, f, *args, **kwargs)

    return save


def _zip_writer(real: Callable[..., Any]) -> Callable[..., Any]:
    """torch's own writer of archives, for packages and exported programs: it writes into memory."""

    def writer(file: Any, *args: Any, **kwargs: Any) -> Any:
        return real(io.BytesIO() if isinstance(file, str | bytes | os.PathLike) else file, *args, **kwargs)

    return writer


def _numpys_open(real: Callable[..., Any]) -> Callable[..., Any]:
    """What numpy.savetxt opens by: numpy has taken io.open aside."""

    def opening(
        path: Any, mode: str = "r", destpath: Any = os.curdir, encoding: Any = None, newline: Any = None
    ) -> Any:
        packed = os.fspath(path).endswith((".gz", ".bz2", ".xz"))
        if packed or not any(letter in mode for letter in "wax+"):
            return real(path, mode, destpath, encoding, newline)
        return open(path, mode, encoding=encoding, newline=newline)  # as guarded

    return opening


def _hdf5(real: Callable[..., Any]) -> Callable[..., Any]:
    """h5py.File(): one that would be written is in memory, with what it has on disk unless it were made anew."""

    def opening(self: Any, name: Any, mode: str = "r", driver: Any = None, *args: Any, **kwargs: Any) -> None:
        if mode == "r" or not isinstance(name, str | bytes | os.PathLike):
            real(self, name, mode, driver, *args, **kwargs)
            return
        options = {key: value for key, value in kwargs.items() if key in _HDF5_OPTIONS}
        real(self, name, mode, "core", *args, **options, backing_store=False)
        _in_memory.append(weakref.ref(self))

    return opening


_HDF5_OPTIONS = (
    "libver",
    "userblock_size",
    "track_order",
    "rdcc_nslots",
    "rdcc_nbytes",
    "rdcc_w0",
    "locking",
)
"""Arguments that are no driver's."""

_SERIALIZE: Makers = {"serialize_file": _nothing}
_CONNECT: Makers = {"connect": databases.guard}
MAKERS: dict[str, Makers] = {
    "torch._C": {
        "ScriptModule.save": _nothing,
        "ScriptModule._save_for_mobile": _nothing,
        "ScriptFunction.save": _nothing,
        "_save_jit_module": _nothing,
        "PyTorchFileWriter": _zip_writer,
    },
    "torch.serialization": {"save": _save},
    "torch": {"save": _save},
    "safetensors._safetensors_rust": _SERIALIZE,
    "safetensors": _SERIALIZE,
    "safetensors.torch": _SERIALIZE,
    "safetensors.numpy": _SERIALIZE,
    "numpy.lib._datasource": {"open": _numpys_open},
    "h5py._hl.files": {"File.__init__": _hdf5},
    "_sqlite3": _CONNECT,
    "sqlite3.dbapi2": _CONNECT,
    "sqlite3": _CONNECT,
}
"""By module. Those that are handed a name by another one are there for the case that they have been imported before the
replay begins."""
