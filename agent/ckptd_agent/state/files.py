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
from ckptd_agent.opened import real_open


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


MOST_BYTES = 1 << 28
"""Size of a text file that is read again to find out how much of it has been read."""


class Captured:
    """Descriptors of the files captured so far."""

    def __init__(self) -> None:
        self.fds: set[int] = set()


class File(Kind):
    name = "file"
    exact = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)
    turn = ITERATORS

    def capture(self, obj: Any, capture: Capture) -> Node:
        how = [str(getattr(obj, "mode", "rb")), *_text_settings(obj)]
        if obj.closed:
            return ["closed", "", how, 0, 0, capture.child(getattr(obj, "name", ""))]
        if is_standard(obj):
            return ["standard", str(obj.fileno()), how, 0, 0, None]
        if not hasattr(obj, "name"):
            capture.trouble(
                "a stream that is laid over memory can't be carried over (a plain StringIO or BytesIO can)"
            )
            return ["descriptor", "", how, 0, 0, None]
        if not isinstance(obj.name, str | bytes | os.PathLike):
            return ["descriptor", "", how, 0, 0, None]
        path, name = _path(obj), capture.child(obj.name)
        if any(letter in how[0] for letter in "wax+"):
            obj.flush()
            fd = obj.fileno()
            capture.scratch(Captured).fds.add(fd)
            return ["write", path, how, os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size, name]
        try:
            return ["read", path, how, obj.tell(), 0, name]
        except OSError:
            return self._between_lines(obj, path, how, name, capture)

    def _between_lines(self, obj: Any, path: str, how: list[Any], name: Any, capture: Capture) -> Node:
        """A text file whose lines are being iterated does not tell its place: its characters are counted."""
        if os.fstat(obj.fileno()).st_size > MOST_BYTES:
            capture.trouble(
                f"the file {path} is in the middle of being read line by line, and too big to read again"
            )
            return ["read", path, how, 0, 0, name]
        left = len(obj.read())
        obj.seek(0)
        done = len(obj.read()) - left
        obj.seek(0)
        obj.read(done)
        return ["lines", path, how, done, 0, name]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        what, path, how = node[1:4]
        if type(fresh) not in self.exact:
            return False
        if what == "standard":
            return not fresh.closed and is_standard(fresh)
        if how != [str(getattr(fresh, "mode", "rb")), *_text_settings(fresh)]:
            return False
        if what == "closed":
            return True
        if fresh.closed or is_standard(fresh):
            return False
        return what in ("write", "descriptor") or (hasattr(fresh, "name") and _path(fresh) == path)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        what, path, how = node[1:4]
        if what == "standard":
            return real_open(int(path), "w" if path != "0" else "r", closefd=False)
        if what == "descriptor":
            return graft.missing("file on a descriptor")
        if what in ("read", "lines"):
            return real_open(path, how[0], **_as_arguments(how))
        # Its real descriptor comes at the very end, with what else is changed of the job's files.
        fd = os.memfd_create("ckptd-replay", os.MFD_CLOEXEC)
        file: Any = real_open(fd, how[0].replace("x", "w"), **_as_arguments(how))
        if hasattr(file, "buffer"):
            file.mode = how[0]
        return file

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        what, path, how, place, size, name = node[1:]
        if what == "closed":
            obj.close()
            _call_it(obj, graft.value(name))
        elif what == "read":
            _call_it(obj, graft.value(name))
            obj.seek(place)
        elif what == "lines":
            _call_it(obj, graft.value(name))
            obj.seek(0)
            obj.read(place)
        elif what == "write":
            _call_it(obj, graft.value(name))
            if not os.path.isfile(path) or os.stat(path).st_size < size:
                raise graft.refuse(
                    f"the file {path}, which the program was writing, no longer has the {size} bytes that it had at "
                    "the checkpoint; put it back"
                )
            graft.later.append(lambda: reattach(obj, path, how[0], place, size))


def _text_settings(file: Any) -> list[Any]:
    if not isinstance(file, io.TextIOWrapper):
        return []
    return [file.encoding, file.errors, file.line_buffering]


def _as_arguments(how: list[Any]) -> dict[str, Any]:
    """For open(), which takes the mode by itself."""
    if len(how) == 1:
        return {}
    return {"encoding": how[1], "errors": how[2], "buffering": 1 if how[3] else -1}


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
