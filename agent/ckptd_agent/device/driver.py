"""The few calls of the CUDA driver that a dump needs, made past torch.

Torch's allocator is the program's: what it has handed out stands in statistics that programs print, and what it caches
for a stream of ours the program's streams can't use. The driver's own pool gives memory back when it is freed.

Signatures: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api/ (the names with ``_v2`` are those that
cuda.h gives since CUDA 3.2 and 4.0). All of them give the GIL away for as long as they take.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LIBRARY = "libcuda.so.1"
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: such a stream and the default one don't wait for each other."""
PORTABLE = 1
"""CU_MEMHOSTREGISTER_PORTABLE: pinned for all devices."""

RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: while another thread records a CUDA graph, this one may ask for memory and lock it.
To wait for a whole device spoils the graph all the same."""

_POINTER, _SIZE, _STREAM = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuDeviceGet": (ctypes.POINTER(ctypes.c_int), ctypes.c_int),
    "cuDevicePrimaryCtxGetState": (ctypes.c_int, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_int)),
    "cuDevicePrimaryCtxRetain": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_int),
    "cuDevicePrimaryCtxRelease_v2": (ctypes.c_int,),
    "cuCtxGetCurrent": (ctypes.POINTER(ctypes.c_void_p),),
    "cuCtxSetCurrent": (ctypes.c_void_p,),
    "cuCtxSynchronize": (),
    "cuThreadExchangeStreamCaptureMode": (ctypes.POINTER(ctypes.c_int),),
    "cuMemGetInfo_v2": (ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)),
    "cuStreamCreate": (ctypes.POINTER(_STREAM), ctypes.c_uint),
    "cuStreamDestroy_v2": (_STREAM,),
    "cuStreamSynchronize": (_STREAM,),
    "cuMemAllocAsync": (ctypes.POINTER(_POINTER), _SIZE, _STREAM),
    "cuMemFreeAsync": (_POINTER, _STREAM),
    "cuMemcpyDtoDAsync_v2": (_POINTER, _POINTER, _SIZE, _STREAM),
    "cuMemcpyDtoHAsync_v2": (ctypes.c_void_p, _POINTER, _SIZE, _STREAM),
    "cuMemHostRegister_v2": (ctypes.c_void_p, _SIZE, ctypes.c_uint),
    "cuMemHostUnregister": (ctypes.c_void_p,),
}


class DeviceError(OSError):
    """A call of the driver failed, or there is none: what was to be done is done another way."""


class Device:
    """One device, through its primary context, which is torch's too."""

    def __init__(self, number: int) -> None:
        """``number``: torch's, that is, among those that the process sees. Raises DeviceError."""
        self.number = number
        self._calls = _load()
        handle = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(handle), number)
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        self._handle, self._context = handle, context

    def close(self) -> None:
        """Let its context go; torch holds it, too."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """This thread's calls go to this device, as all methods below need it."""
        before, mode = ctypes.c_void_p(), ctypes.c_int(RELAXED)
        self._call("cuCtxGetCurrent", ctypes.byref(before))
        self._call("cuCtxSetCurrent", self._context)
        try:
            self._call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
            try:
                yield
            finally:
                self._call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        finally:
            self._call("cuCtxSetCurrent", before)

    def finish(self) -> None:
        """Wait until all streams of the device, the program's included, have done what they were given."""
        self._call("cuCtxSynchronize")

    def memory(self) -> tuple[int, int]:
        """Bytes: free, and in all."""
        free, total = _SIZE(), _SIZE()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def open_stream(self) -> int:
        """A stream of our own."""
        stream = _STREAM()
        self._call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        return stream.value or 0

    def close_stream(self, stream: int) -> None:
        """Its work is done, or is not waited for."""
        self._call("cuStreamDestroy_v2", stream)

    def wait(self, stream: int) -> None:
        """Until the stream has done all that it was given."""
        self._call("cuStreamSynchronize", stream)

    def take(self, nbytes: int, stream: int) -> int:
        """The address of so many bytes, for what the stream is given from here on."""
        address = _POINTER()
        self._call("cuMemAllocAsync", ctypes.byref(address), nbytes, stream)
        return address.value

    def free(self, address: int, stream: int) -> None:
        """Give it back when the stream has come so far."""
        self._call("cuMemFreeAsync", address, stream)

    def clone(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """From the device to the device."""
        self._call("cuMemcpyDtoDAsync_v2", target, source, nbytes, stream)

    def fetch(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """From the device to the host."""
        self._call("cuMemcpyDtoHAsync_v2", target, source, nbytes, stream)

    def pin(self, address: int, nbytes: int) -> None:
        """Lock a part of the host's memory, so that devices can read and write it by themselves."""
        self._call("cuMemHostRegister_v2", address, nbytes, PORTABLE)

    def unpin(self, address: int) -> None:
        """Undo that, by the address that was given."""
        self._call("cuMemHostUnregister", address)

    def _call(self, name: str, *args: Any) -> None:
        error = self._calls[name](*args)
        if error:
            raise DeviceError(error, f"{name} gave error {error}")


def is_active(number: int) -> bool:
    """Whether somebody in this process uses that device; looking takes none of its memory. Raises DeviceError."""
    calls = _load()
    handle, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    for name, args in (
        ("cuDeviceGet", (ctypes.byref(handle), number)),
        ("cuDevicePrimaryCtxGetState", (handle, ctypes.byref(flags), ctypes.byref(active))),
    ):
        if error := calls[name](*args):
            raise DeviceError(error, f"{name} gave error {error}")
    return bool(active.value)


@contextmanager
def use(number: int) -> Iterator[Device]:
    """A device, current on this thread, for a few calls. Raises DeviceError."""
    device = Device(number)
    try:
        with device.current():
            yield device
    finally:
        device.close()


_calls: dict[str, Any] = {}


def _load() -> dict[str, Any]:
    if not _calls:
        try:
            library = ctypes.CDLL(LIBRARY)
            found = {name: getattr(library, name) for name in _SIGNATURES}
        except (OSError, AttributeError) as error:
            raise DeviceError(0, f"no driver that can do it: {error}") from None
        for name, signature in _SIGNATURES.items():
            found[name].argtypes, found[name].restype = signature, ctypes.c_int
        _calls.update(found)
    return _calls
