"""Open files: their path and offset; on a resume the program's own file object is put back to work.

Files are found in two ways: in the graph, where a variable refers to them, and among all files that are open
for writing, so that those that only a library holds (a logging handler) are not forgotten.
"""

from __future__ import annotations

import io
import os
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import ITERATORS, Kind, Node, register
from ckptd_agent.opened import note, real_open


def is_standard(file: Any) -> bool:
    """The file is stdin, stdout or stderr: those stay the process's own."""
    try:
        return bool(file.fileno() <= 2)
    except (OSError, ValueError, io.UnsupportedOperation):
        return False


def truncate_to(path: str, offset: int, mode: str) -> int:
    """Open a file of the first run as it was: cut to ``offset`` bytes, a descriptor that stands there."""
    flags = os.O_RDWR if "+" in mode else os.O_WRONLY
    if "a" in mode:
        flags |= os.O_APPEND
    fd = os.open(path, flags | os.O_CLOEXEC)
    os.ftruncate(fd, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return fd


class Captured:
    """Descriptors of the files captured so far."""

    def __init__(self) -> None:
        self.fds: set[int] = set()


class File(Kind):
    name = "file"
    exact = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)
    turn = ITERATORS

    def capture(self, obj: Any, capture: Capture) -> Node:
        if obj.closed:
            return ["closed", "", "", 0, 0, None]
        if is_standard(obj):
            return ["standard", str(obj.fileno()), "", 0, 0, None]
        mode = str(getattr(obj, "mode", "rb"))
        if not isinstance(obj.name, str | bytes | os.PathLike):
            return ["descriptor", "", mode, 0, 0, None]
        path, name = _path(obj), capture.child(obj.name)
        if any(letter in mode for letter in "wax+"):
            obj.flush()
            fd = obj.fileno()
            capture.scratch(Captured).fds.add(fd)
            return ["write", path, mode, os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size, name]
        try:
            return ["read", path, mode, obj.tell(), 0, name]
        except OSError:  # its lines are being iterated, and what was read ahead can't be had
            capture.trouble(f"the file {path} is in the middle of being read line by line")
            return ["read", path, mode, 0, 0, name]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if type(fresh) not in self.exact:
            return False
        return node[1] != "standard" or (not fresh.closed and is_standard(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        what, path, mode = node[1:4]
        if what == "closed":
            file = real_open(os.devnull)
            file.close()
            return file
        if what == "standard":
            return real_open(int(path), "w" if path != "0" else "r", closefd=False)
        if what == "descriptor":
            return graft.missing("file on a descriptor")
        if what == "read":
            return real_open(path, mode)
        kept = mode if "a" in mode else mode.replace("w", "r+").replace("x", "r+").replace("++", "+")
        file = real_open(path, kept)
        note(file)
        return file

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        what, path, mode, place, size, name = node[1:]
        if what == "closed":
            obj.close()
        elif what == "read":
            obj.seek(place)
        elif what == "write":
            _call_it(obj, graft.value(name))
            graft.later.append(lambda: reattach(obj, path, mode, place, size))


def _path(file: Any) -> str:
    """Where the file lies now: it may have been renamed, or opened from another working folder."""
    path = os.readlink(f"/proc/self/fd/{file.fileno()}")
    return path if os.path.exists(path) else os.path.abspath(os.fsdecode(file.name))


def _call_it(file: Any, name: Any) -> None:
    """Give a file object the name that it had: the program may have opened another one, or none, this time."""
    raw = getattr(file, "buffer", file)
    getattr(raw, "raw", raw).name = name


def reattach(file: Any, path: str, mode: str, place: int, size: int) -> None:
    """Put the file of the first run, cut to what it had then, under the program's descriptor."""
    if file.closed:
        return
    file.flush()
    fd = truncate_to(path, size, mode)
    try:
        os.dup2(fd, file.fileno(), inheritable=False)
    finally:
        os.close(fd)
    if file.seekable() and "a" not in mode:
        file.seek(place)


register(File)
