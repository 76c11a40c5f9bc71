"""Replay: the program runs muted from its top to the recorded position, and the saved state is grafted in.

Before each loop on the recorded path the frames that are there are grafted (a stage), so that the loop's
iterable and the statements in its body read what they would have read; loops that had ended are skipped and
end as they ended; at the recorded safe point everything is grafted once more, and the program runs on.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from itertools import chain, compress, repeat
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ckptd.errors import CkptdError, DamagedError, RefusedError
from ckptd_agent import guards, link
from ckptd_agent.graph import document, frames
from ckptd_agent.graph.graft import is_gone
from ckptd_agent.loops import events, hooks, ledger, position
from ckptd_agent.loops import record as r
from ckptd_agent.loops.ledger import callers
from ckptd_agent.restore import Restorer, pair_variables, where_is
from ckptd_agent.source import table
from ckptd_agent.source.branches import holds, outcome

_started = time.monotonic()


def begin(folder: str) -> None:
    """Set up the replay of a checkpoint, before the program's first line. Raises RefusedError, DamagedError."""
    from ckptd.store.resuming import ResumingCheckpoint

    memory = os.environ.get("CKPTD_MEMORY")
    start(ResumingCheckpoint(Path(folder), Path(memory) if memory else None))


def start(opened: Any) -> Engine:
    """Set up the replay of a checkpoint that is open: an OpenCheckpoint, or what offers its graph, storages, facts."""
    saved = document.unpack(opened.graph())
    facts = opened.manifest.facts
    here = ".".join(map(str, sys.version_info[:2]))
    if not str(facts.get("python", "")).startswith(here + "."):
        raise RefusedError(
            f"the checkpoint was taken under Python {facts.get('python')}, this is {here}: use that one"
        )
    engine = Engine(opened, saved)
    hooks.begin_replay(engine)
    guards.begin()
    atexit.register(engine.at_exit)
    sys.excepthook, engine.excepthook = engine.on_exception, sys.excepthook
    return engine


class Engine(Restorer, hooks.Replay):
    """The replay under way."""

    def __init__(self, opened: Any, saved: document.Document) -> None:
        super().__init__(opened, saved)
        self.skipped = -1
        self.entering: int | None = None
        self.untested: int | None = None
        self.entered: FrameType | None = None
        self.excepthook: Any = None
        self.failure = ""
        """What the first statement raised that the replay went on behind."""

    def in_child(self) -> None:
        """A child was forked in mid-replay: it may live on behind it, so it must be heard and write its files."""
        atexit.unregister(self.at_exit)
        sys.excepthook = self.excepthook
        guards.end(in_child=True)

    # ---- where we are -----------------------------------------------------------------------------

    def depth(self) -> int | None:
        """How many loops of the path are active, if all active ones are on it; else None."""
        depth = len(r.stack) - 1
        if depth > len(self.path):
            return None
        for record, loop in zip(r.stack[1:], self.path, strict=False):
            if list(table.LOOPS[record[r.LOOP]].key) != loop["key"] or record[r.ORDINAL] != loop["ordinal"]:
                return None
        return depth

    def peek_ordinal(self, loop: int) -> int:
        if table.LOOPS[loop].nested:
            return 0
        parent = r.stack[-1]
        current = r.length_hint(parent[r.COUNTER]) == parent[r.SEEN]
        return int(parent[r.CHILDREN].get(loop, 0)) if current else 0

    def give_ordinal(self, loop: int, ordinal: int) -> None:
        """Let the loop's next entry have the ordinal that it had; this one counts as an entry."""
        if not table.LOOPS[loop].nested:
            parent = r.stack[-1]
            r.next_ordinal(parent, loop)
            parent[r.CHILDREN][loop] = ordinal + 1

    # ---- what rewritten code calls ----------------------------------------------------------------

    def skip(self, loop: int) -> bool:
        """Before a loop: is it over, is it on the path, or does it simply run?"""
        frame = sys._getframe(2)
        over = bool(self._guarded(self._skip, loop, frame))
        if over and self.skipped == r.RAISED:
            raise r.returned[0]
        return over

    def _guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """Whatever fails here refuses the resume: the program must not catch it and go on."""
        try:
            return function(*args)
        except DamagedError as error:
            link.refuse(str(error), damaged=True)
        except CkptdError as error:
            self.refuse(str(error))
        except Exception as error:
            traceback = error.__traceback__
            while traceback is not None and traceback.tb_next is not None:
                traceback = traceback.tb_next
            where = (
                f" ({os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno})"
                if traceback
                else ""
            )
            self.refuse(f"the state could not be restored: {type(error).__name__}: {error}{where}")

    def _skip(self, loop: int, frame: FrameType) -> bool:
        depth = self.depth()
        if depth is None:
            return False
        key, ordinal = list(table.LOOPS[loop].key), self.peek_ordinal(loop)
        at_end = depth == len(self.path) and [*self.final[:2], self.final[3]] == [*key, True]
        if at_end and self._on_way(frame, depth):
            self.give_ordinal(loop, self.final[2])
            self.skipped, how = r.BROKEN, self.final[4]
            trained = self._entry(depth, key, ordinal, frame) is not None
            self.finish(frame, loop)
            if trained:
                ledger.note(r.stack[-1], loop, self.final[2], how, frame)
            if how == r.EXHAUSTED:
                hooks.mark_exhausted(loop)
            return True
        if depth < len(self.path) and self.path[depth]["key"] == key and self._on_way(frame, depth):
            self.give_ordinal(loop, self.path[depth]["ordinal"])
            self.stage(frame)
            self.entering = loop
            return False
        entry = self._entry(depth, key, ordinal, frame)
        if entry is None:
            return False
        self.give_ordinal(loop, entry["ordinal"])
        self._end_as_it_ended(loop, entry["ordinal"], entry, frame)
        return True

    def _on_way(self, frame: FrameType, depth: int) -> bool:
        """The frames stand where those of the checkpoint stood, and the innermost has the path's next loop."""
        found = position.find(frame, strict=False)
        index = len(found.places) - 1
        if not self.is_prefix(found, whole=False):
            return False
        loops = [len(place["loops"]) for place in self.places]
        if depth == len(self.path):
            return index == len(self.places) - 1
        return sum(loops[:index]) <= depth < sum(loops[: index + 1])

    def _entry(self, depth: int, key: list[Any], ordinal: int, frame: FrameType) -> dict[str, Any] | None:
        """The ledger's entry of a loop that is over: by the calls that lead to it, and where one of them is a
        builtin that may call many times, by its turn. (Turns alone don't do: on restored variables a call before
        it may be left out, or made that was not.)"""
        entries = [entry for entry in self.saved["ledgers"][depth] if entry["key"] == key]
        if entries:
            chain = position.chain_of(callers(frame))
            entries = [entry for entry in entries if entry["chain"] == chain]
        for entry in entries:
            if entry["ordinal"] == ordinal:
                found: dict[str, Any] = entry
                return found
        return entries[0] if len(entries) == 1 and entries[0]["direct"] else None

    def _end_as_it_ended(self, loop: int, ordinal: int, entry: dict[str, Any], frame: FrameType) -> None:
        from ckptd_agent.loops.ledger import Ended, keep

        parent = r.stack[-1]
        graft = self.new_graft()
        # In place where that can be: what else refers to a variable's object must go on referring to it.
        pair_variables(entry["variables"], frames.read(frame), graft)
        graft.match()
        values = graft.values(entry["variables"])
        value = graft.value(entry["value"])
        graft.fill()
        variables = dict(zip(values[::2], values[1::2], strict=True))
        frames.write(frame, {**frames.read(frame), **variables})
        self.skipped = entry["how"]
        keep(parent, loop, ordinal, Ended(self.skipped, value, variables, callers(frame)))
        r.returned[0] = value[0](*value[1]) if self.skipped == r.RAISED else value
        if self.skipped == r.EXHAUSTED:
            hooks.mark_exhausted(loop)

    def inside(self, loop: int) -> bool:
        if self.untested != loop:
            return False
        self.untested = None
        return not self._guarded(self._leads_on, loop, sys._getframe(2))

    def _leads_on(self, loop: int, frame: FrameType) -> bool:
        """The way leads through the while loop's condition: that calls the path's next function."""
        found = position.find(frame, strict=False)
        index = len(found.places) - 1
        if index >= len(self.places) - 1 or len(r.stack) - 1 != sum(
            len(place["loops"]) for place in self.places[: index + 1]
        ):
            return False
        line, column = self.places[index]["spot"]
        if not any(holds(span, line, column) for span in table.LOOPS[loop].test):
            return False
        self.stage(frame)
        return True

    def open_for(self, loop: int, iterable: Any) -> Any:
        if self.entering != loop or r.get_ident() != r.main_thread:
            return (r.open_nested_for if table.LOOPS[loop].nested else r.open_for)(loop, iterable)
        return self._guarded(self._open_on_path, loop, iterable)

    def _open_on_path(self, loop: int, iterable: Any) -> Any:
        saved = self.path[len(r.stack) - 1]
        self.entering = None
        fresh = iter(iterable)
        self.graft.pair(saved["items"], fresh)
        self.graft.match()
        items = self.graft.value(saved["items"])
        self.graft.fill()
        counter = repeat(True, r.BIG - saved["count"] + 1)
        # The body is entered in mid-iteration: the target is bound to something of its shape, and the
        # variables are restored right behind.
        holder = chain((_placeholder(table.LOOPS[loop].shape),), items)
        record = r.new_record(loop, saved["ordinal"], counter, None)
        record[r.ITEMS] = compress(holder, counter)
        record[r.HOLDER] = [holder, items, False]
        record[r.FLAGS] = saved["flags"]
        r.stack.append(record)
        return record[r.ITEMS]

    def open_while(self, loop: int) -> Any:
        if self.entering != loop or r.get_ident() != r.main_thread:
            return (r.open_nested_while if table.LOOPS[loop].nested else r.open_while)(loop)
        saved = self.path[len(r.stack) - 1]
        self.entering = None
        self.untested = loop
        counter = repeat(True, r.BIG - saved["count"] + 1)
        record = r.new_record(loop, saved["ordinal"], counter, counter)
        record[r.FLAGS] = saved["flags"]
        r.stack.append(record)
        return counter

    def body(self, loop: int) -> None:
        """At the top of a loop's body: restore its frame, or everything if this is the place."""
        self._guarded(self._body, loop, sys._getframe(2))

    def _body(self, loop: int, frame: FrameType) -> None:
        depth = self.depth()
        if depth and r.count(r.stack[-1]) != self.path[depth - 1]["count"]:
            raise RefusedError(
                f"the program went past the place of the checkpoint in the loop at {table.LOOPS[loop].where}"
            )
        if not depth:
            self._watch_training()
        elif depth < len(self.path) or self.final[3]:
            if r.stack[-1][r.LOOP] == loop:
                self.stage(frame)
        elif self.final == [*table.LOOPS[loop].key, r.stack[-1][r.ORDINAL], False, 0]:
            self.finish(frame, loop)

    def branch(self, number: int) -> bool | None:
        """At an if statement: which way it went in the first run, if it is on the way to the checkpoint."""
        found: bool | None = self._guarded(self._branch, number, sys._getframe(2))
        return found

    def _branch(self, number: int, frame: FrameType) -> bool | None:
        if self.depth() is None:
            return None
        found = position.find(frame, strict=False)
        if not self.is_prefix(found, whole=False):
            return None
        return outcome(table.BRANCHES[number], *self.places[len(found.places) - 1]["spot"])

    def past(self, number: int) -> bool:
        """Whether a statement on the path was done before the checkpoint, and what it made is restored."""
        return bool(self._guarded(self._past, table.PASSABLES[number], sys._getframe(2)))

    def _past(self, passable: table.Passable, frame: FrameType) -> bool:
        depth = self.depth()
        if not depth:
            return False
        found = position.find(frame, strict=False)
        if not self.is_prefix(found, whole=False):
            return False
        index = len(found.places) - 1
        loops = [len(place["loops"]) for place in self.places]
        if not sum(loops[:index]) <= depth <= sum(loops[: index + 1]):
            return False
        if depth == sum(loops[:index]) and self.entered is not frame:
            self.entered = frame  # its own loops come behind: its variables are not restored yet
            self.stage(frame)
        line, column = self.places[index]["spot"]
        end = passable.span[2:] if column is not None else passable.span[2:3]
        if end > ((line, column) if column is not None else (line - 1,)):
            return False
        own = frames.read(frame)
        usable = ledger.is_data if passable.only_data else _is_there
        return all(name in own and usable(own[name]) for name in passable.names)

    def failed(self) -> bool:
        """A statement on the way has failed, on what a skipped loop would have gathered, most likely: go on?"""
        return bool(self._guarded(self._passes_over, sys._getframe(2), sys.exc_info()[1]))

    def _passes_over(self, frame: FrameType, error: BaseException) -> bool:
        if self.depth() is None or _is_caught(frame):
            return False
        self.failure = self.failure or f"{type(error).__name__}: {error} at {where_is(frame)}"
        return True

    def statement(self, module: str, number: int) -> None:
        """Before a statement on the path whose operands wait below a call: they read restored variables."""
        self._guarded(self._statement, module, number, sys._getframe(2))

    def _statement(self, module: str, number: int, frame: FrameType) -> None:
        depth = self.depth()
        if depth is None:
            return
        found = position.find(frame, strict=False)
        index = len(found.places) - 1
        if index >= len(self.places) - 1 or not self.is_prefix(found, whole=False):
            return
        place = self.places[index]
        loops = sum(len(each["loops"]) for each in self.places[: index + 1])
        if place["statement"] == number and place["key"][0] == module and depth == loops:
            self.stage(frame)

    def _watch_training(self) -> None:
        """A loop that is not on the path and trains: the replay has gone astray."""
        if len(r.stack) > 1 and r.stack[-1][r.FLAGS] & (r.BACKWARD | r.STEP):
            where = table.LOOPS[r.stack[-1][r.LOOP]].where
            self.refuse(
                f"the program trains at {where} on its way to the checkpoint, which it did not in the first run"
            )

    def finish(self, frame: FrameType, loop: int) -> None:
        """The recorded safe point: graft everything, give files and output back, let the program run."""
        from ckptd.protocol import Resumed, Said
        from ckptd_agent import company, modes, opened, rooms, safepoint
        from ckptd_agent.state import rng

        company.await_quiet()
        later = self.restore_all(frame)
        self.opened.verify_rest()
        modes.put(self.saved["modes"])
        facts = self.opened.manifest.facts
        if os.getcwd() != facts["cwd"] and os.path.isdir(facts["cwd"]):
            os.chdir(facts["cwd"])
        atexit.unregister(self.at_exit)
        if sys.excepthook == self.on_exception:
            sys.excepthook = self.excepthook
        guards.end()
        short = opened.cut_back(self.saved["appended"])
        for action in later:
            action()
        opened.forget()
        hooks.end_replay()
        events.set_steps(facts["step"], facts["stepped"])
        safepoint.count_from(facts["step"])
        rng.put(self.saved["rng"])
        link.send(Resumed(facts["step"], time.monotonic() - _started))
        for path in short:
            link.send(
                Said(f"{path} has lost what it had at step {facts['step']}: what is appended follows on less")
            )
        # Nothing of the program's may be kept alive: a file that is never closed is flushed when it is let go.
        self.graft = self.opened = self.entered = None
        self.saved = {}
        if memory := os.environ.get("CKPTD_MEMORY"):
            rooms.adopt(Path(memory))
        if safepoint.witness is not None:
            safepoint.witness("resumed")

    # ---- the ends that must not be ----------------------------------------------------------------

    def refuse(self, why: str) -> NoReturn:
        """End the process without having changed anything; the supervisor says why."""
        link.refuse(f"{why} (it had failed before: {self.failure})" if self.failure else why)

    def at_exit(self) -> None:
        self.refuse("the program ended without coming to the place of the checkpoint")

    def on_exception(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        place = trace
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        self.refuse(f"the program failed on its way to the checkpoint: {kind.__name__}: {error}{where}")


def _is_caught(frame: FrameType | None) -> bool:
    """The program itself handles what is raised here."""
    while frame is not None:
        source = table.source_of(frame.f_code)
        if source and any(first <= frame.f_lineno <= last for first, last in source.tries):
            return True
        frame = frame.f_back
    return False


def _is_there(value: Any) -> bool:
    return not is_gone(value)


def _placeholder(shape: Any) -> Any:
    """Something that a for loop's target can be bound to."""
    if shape is None:
        return None
    return tuple(_placeholder(each) for each in shape if each != ())
