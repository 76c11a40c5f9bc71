"""Experiment trackers: what was logged before a checkpoint stays, what came behind it is taken back, once.

TensorBoard's writers (tensorboard's own, which torch.utils.tensorboard uses, and tensorboardX's) put events
into a queue that a thread of theirs empties into a file. At a dump they are brought to rest; on a resume the
writer that the program has made again goes on in the file of the first run, cut to what it had then.

MLflow with its files in a folder appends each point to a file, which ckptd_agent.opened cuts back; wandb's
service process is out of reach. Both go on with the run that they had, by its id in the environment.
"""

from __future__ import annotations

import glob
import os
import socket
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from ckptd.errors import DumpFailedError
from ckptd_agent import opened
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, register

REST_SECONDS = 5.0
"""How long a writer's thread gets to write what it has been handed."""
TENSORBOARD = "tensorboard.summary.writer.event_file_writer"
TENSORBOARDX = "tensorboardX.event_file_writer"


class EventFile(Kind):
    """An EventFileWriter: its file, but neither its thread nor its queue, which are empty and the program's anew."""

    name = "event_file"

    def takes(self, obj: Any) -> bool:
        return type(obj).__name__ == "EventFileWriter" and type(obj).__module__ in (TENSORBOARD, TENSORBOARDX)

    def capture(self, obj: Any, capture: Capture) -> Node:
        module = type(obj).__module__
        if is_closed(obj):
            return [module, obj.get_logdir(), "", True, 0, None, []]
        path = _path(obj)
        if not os.path.isfile(path) or not (module == TENSORBOARDX or _writes_locally(obj)):
            capture.trouble(
                f"TensorBoard's events for {obj.get_logdir()} do not go to a plain file, and what is logged after a "
                "checkpoint could not be taken back"
            )
            return [module, obj.get_logdir(), path, False, 0, None, []]
        bring_to_rest(obj)
        handle = capture.child(_handle(obj)) if module == TENSORBOARDX else None
        if module == TENSORBOARD:
            _watch_files(obj, path)
        return [module, obj.get_logdir(), path, False, os.path.getsize(path), handle, _arguments(obj)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return self.takes(fresh) and type(fresh).__module__ == node[1] and (node[4] or not is_closed(fresh))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        if node[6] is not None and not is_closed(fresh):
            graft.pair(node[6], _handle(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        module = sys.modules.get(node[1])
        if module is None or graft.lenient:  # at a stage the program may still come to make it
            return graft.missing(f"{node[1]}.EventFileWriter")
        return vars(module)["EventFileWriter"](node[2], *node[7])  # its file is in memory as yet

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        _, module, folder, path, closed, size, handle, _ = node
        if not is_closed(obj):
            bring_to_rest(obj)
        if closed:
            obj.close()
            return
        if not os.path.isfile(path) or os.path.getsize(path) < size:
            raise graft.refuse(
                f"TensorBoard's file {path} no longer has the {size} bytes that it had at the checkpoint; put it back"
            )
        obj._logdir = folder
        if module == TENSORBOARDX:
            records = obj._ev_writer._py_recordio_writer
            records._writer = graft.value(handle)
            records.path = obj._ev_writer._file_name = path
        else:
            obj._file_name = path
            obj._general_file_writer.filename = os.fsencode(path)
            obj._general_file_writer.write_started = True


class WandbRun(Kind):
    """A run of wandb's: of its own only the count of steps; the rest belongs to its service process."""

    name = "wandb_run"

    def takes(self, obj: Any) -> bool:
        return type(obj).__name__ == "Run" and type(obj).__module__ == "wandb.sdk.wandb_run"

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [str(obj.id), obj._local_step]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return self.takes(fresh) and str(fresh.id) == node[1]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing(f"wandb.Run with the id {node[1]}")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        obj._local_step = step = node[2]
        if step:  # the service counts for itself: it is told where to go on
            graft.later.append(lambda: obj.log({}, step=step, commit=False))


def is_closed(writer: Any) -> bool:
    """Whether an EventFileWriter, of either kind, has been closed."""
    return bool(writer._closed if type(writer).__module__ == TENSORBOARDX else writer._async_writer._closed)


def bring_to_rest(writer: Any) -> None:
    """Let a writer's thread write all that it was handed. Raises DumpFailedError if it doesn't."""
    if type(writer).__module__ == TENSORBOARDX:
        # Its queue can't tell when it has been emptied: the thread is ended, and another one started.
        writer._worker.stop()
        writer._ev_writer.flush()
        writer._worker = type(writer._worker)(writer._event_queue, writer._ev_writer, writer._flush_secs)
        writer._worker.start()
        return
    queue = writer._async_writer._byte_queue
    until = time.monotonic() + REST_SECONDS
    while queue.unfinished_tasks:
        if time.monotonic() > until:
            raise DumpFailedError(f"TensorBoard's thread did not write its events within {REST_SECONDS:g} s")
        time.sleep(0.0005)
    writer.flush()


def _path(writer: Any) -> str:
    if type(writer).__module__ == TENSORBOARDX:
        return os.path.abspath(str(getattr(_handle(writer), "name", "")))
    return os.path.abspath(os.fsdecode(writer._general_file_writer.filename))


def _handle(writer: Any) -> Any:
    return writer._ev_writer._py_recordio_writer._writer


def _writes_locally(writer: Any) -> bool:
    """Through Python's own files, and not through TensorFlow's, which a replay can't keep from writing."""
    system = getattr(writer._general_file_writer, "fs", None)
    return type(system).__name__ == "LocalFileSystem"


def _arguments(writer: Any) -> list[Any]:
    """Size of the queue and seconds between flushes, as the constructor takes them."""
    if type(writer).__module__ == TENSORBOARDX:
        return [writer._event_queue._maxsize, writer._flush_secs]
    return [writer._async_writer._byte_queue.maxsize, writer._async_writer._worker._flush_secs]


def _watch_files(writer: Any, path: str) -> None:
    """The event files of this process in and below the writer's folder: those to come are not the checkpoint's."""
    opened.appended[path] = None
    folder = glob.escape(os.path.dirname(path))
    opened.watch(os.path.join(folder, "**", f"events.out.tfevents.*.{socket.gethostname()}.{os.getpid()}.*"))


# ---- runs with an id ----------------------------------------------------------------------------


_given: list[str] = []
"""Variables that were set for the replay."""


def environment() -> dict[str, str]:
    """What a resumed program is to find in its environment, so that its trackers go on with their runs.

    Raises:
        DumpFailedError: the runs can't be gone on with.
    """
    found = {}
    run = _mlflow_run()
    if run is not None:
        found["MLFLOW_RUN_ID"] = str(run.info.run_id)
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        found.update(WANDB_RUN_ID=str(wandb.run.id), WANDB_RESUME="allow")
        if wandb.run.offline:
            _say_once(
                "wandb is offline and holds what is logged in memory: a SIGTERM loses nothing, but SIGKILL or a crash "
                "loses what it has not written"
            )
    return found


def give(variables: dict[str, str]) -> None:
    """Set the variables that ``environment`` told, where the user has not, before a replay."""
    for name, value in variables.items():
        if name not in os.environ:
            os.environ[name] = value
            _given.append(name)


def part(signum: int) -> None:
    """The process ends by a notice, past Python's own exit: let wandb's service write out what it holds in memory.

    Called once the checkpoint is safe, so that it may take its time; the supervisor's deadline ends it.
    """
    wandb: Any = sys.modules.get("wandb")
    if wandb is None or getattr(wandb, "run", None) is None:
        return
    try:
        wandb.run.mark_preempting()
        wandb.teardown(exit_code=128 + signum)
    except Exception as error:  # the job ends either way
        _say_once(f"wandb could not be told that the job leaves: {type(error).__name__}: {error}")


def take_back() -> None:
    """Behind the replay: a run that begins later is one of its own."""
    for name in _given:
        os.environ.pop(name, None)
    _given.clear()


def _mlflow_run() -> Any:
    """MLflow's active run, or None."""
    fluent = sys.modules.get("mlflow.tracking.fluent")
    if fluent is None:
        return None
    runs = fluent._active_run_stack.get()
    if len(runs) > 1:
        raise DumpFailedError(
            "MLflow runs are nested here, and only one can be gone on with; save when the inner one has ended"
        )
    return runs[0] if runs else None


def _watch_mlflow() -> None:
    """The files of the active run's metrics, those that are still to come included."""
    run = _mlflow_run()
    if run is None:
        return
    where = str(sys.modules["mlflow"].get_tracking_uri())
    kind, _, path = where.partition(":")
    if path and kind != "file":
        _say_once(
            f"MLflow keeps its runs in {kind}: what is logged there between a checkpoint and a "
            "crash is there twice after the resume"
        )
        return
    root = os.path.abspath(unquote(urlsplit(where).path) if path else where)
    folder = glob.escape(os.path.join(root, run.info.experiment_id, run.info.run_id, "metrics"))
    opened.watch(os.path.join(folder, "**"))


_said: set[str] = set()


def _say_once(text: str) -> None:
    from ckptd.protocol import Said
    from ckptd_agent import link

    if text not in _said:
        _said.add(text)
        link.send(Said(text))


opened.before_sizes.append(_watch_mlflow)
opened.after_cut.append(take_back)
register(EventFile, WandbRun)
