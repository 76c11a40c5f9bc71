"""A stand-in for the CUDA driver (libcuda.c), for machines that have none: built with the C compiler that is here."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("libcuda.c")


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    """Compile it; returns the library. There must be a compiler."""
    library = folder / "libcuda-fake.so"
    subprocess.run(
        [str(compiler()), "-shared", "-fPIC", "-O1", "-pthread", "-o", library, SOURCE], check=True
    )
    return library


class Cuda:
    """What tests set and see of it."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.fake_used.restype = ctypes.c_size_t
        for name in ("fake_open", "fake_pinned", "fake_copies"):
            getattr(self._library, name).restype = ctypes.c_long
        self._library.fake_give.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        self._library.fake_reset.argtypes = (ctypes.c_size_t, ctypes.c_long)
        self._library.fake_fail_in.argtypes = (ctypes.c_long,)
        self._given: list[int] = []

    def reset(self, nbytes: int = 80 << 30, pause: float = 0.0002) -> None:
        """Each device's memory in bytes, and the seconds that each piece of work on it waits."""
        self._library.fake_reset(nbytes, round(pause * 1e6))

    def give(self, device: int, address: int, nbytes: int) -> None:
        """The program has this on a device."""
        assert self._library.fake_give(device, address, nbytes) == 0
        self._given.append(address)

    def use(self, *devices: int) -> None:
        """The program uses these devices, and no others."""
        for number in range(2):
            self._library.fake_use(number, int(number in devices))

    def forget(self) -> None:
        """The program has nothing there any more."""
        for address in self._given:
            self._library.fake_forget(ctypes.c_void_p(address))
        self._given.clear()

    def fail_in(self, copies: int) -> None:
        """Let the copy behind so many fail."""
        self._library.fake_fail_in(copies)

    @property
    def fetched(self) -> int:
        """Copies to the host."""
        return int(self._library.fake_copies(0))

    @property
    def fetched_pinned(self) -> int:
        """Those of them that went into memory that was locked for it."""
        return int(self._library.fake_copies(1))

    @property
    def cloned(self) -> int:
        """Copies within a device."""
        return int(self._library.fake_copies(2))

    @property
    def used(self) -> int:
        """Bytes of the devices that ckptd has taken."""
        return int(self._library.fake_used())

    @property
    def open(self) -> int:
        """Streams and contexts that ckptd has not given back."""
        return int(self._library.fake_open())

    @property
    def pinned(self) -> int:
        """Pieces of the host's memory that are locked."""
        return int(self._library.fake_pinned())

    @property
    def current(self) -> Any:
        """This thread's context."""
        self._library.fake_current.restype = ctypes.c_void_p
        return self._library.fake_current()

    @property
    def mode(self) -> int:
        """What graphs that other threads record forbid this one: 0 most, as it is by itself."""
        return int(self._library.fake_mode())
