"""Iterators of C types: rebuilt from what reduce says, or set in place where another one holds them."""

from __future__ import annotations

import collections
import collections.abc
import gc
import itertools
import sys
import types
from contextlib import contextmanager
from typing import Any

from ckptd_agent.graph.anchors import alike
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.containers import same
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import ITERATORS, Kind, Node, register
from ckptd_agent.source.quiet import warnings_off

SETTABLE: tuple[type, ...] = tuple(
    type(each)
    for each in (
        iter([]),
        iter(()),
        iter(""),
        iter(b""),
        iter(range(0)),
        iter(range(1 << 70)),
        reversed([]),
        iter(bytearray()),
    )
)
"""Iterators over a sequence with an index that __setstate__ sets."""
FORWARD: tuple[type, ...] = (type(iter(())), type(iter([])))
"""Those whose state is the number of items that they have given."""
_d: dict[int, int] = {}
_VIEWED: tuple[Any, ...] = (
    _d.keys(),
    _d.values(),
    _d.items(),
    set(),
    collections.OrderedDict(),
    collections.deque(),
)
VIEWS = tuple(type(iter(each)) for each in _VIEWED)
"""Iterators over a container that has no index: reduce gives a list of what is left."""
STATELESS = (
    zip,
    map,
    filter,
    itertools.starmap,
    itertools.takewhile,
    itertools.filterfalse,
    itertools.compress,
)
"""Iterators whose whole state is that of others below them (and, of takewhile, one flag)."""
OTHERS = (
    enumerate, reversed, type(iter(int, 1)), itertools.count, itertools.cycle, itertools.repeat, itertools.chain,
    itertools.islice, itertools.accumulate, itertools.dropwhile, itertools.product, itertools.permutations,
    itertools.combinations, itertools.combinations_with_replacement, itertools.zip_longest, itertools.pairwise,
    itertools.groupby, itertools._grouper,  # type: ignore[attr-defined]
)  # fmt: skip
MAKERS = {each.__name__: each for each in (*STATELESS, *OTHERS, iter, reversed, range)}
"""What a saved iterator may be made by: nothing else is called."""


def reduce_iterator(obj: Any) -> tuple[Any, ...]:
    """The reduce tuple; itertools warns that this goes away in 3.14, which ckptd does not support yet."""
    with warnings_off():
        return tuple(obj.__reduce__())


class Iterator(Kind):
    """Made anew, over what its parts are restored to, wherever it is not as it was."""

    name = "iterator"
    exact = (*SETTABLE, *VIEWS, *STATELESS, *OTHERS)
    mutable = False
    turn = ITERATORS

    def capture(self, obj: Any, capture: Capture) -> Node:
        try:
            maker, args, *state = reduce_iterator(obj)
        except TypeError:  # itertools.pairwise has no such protocol, and what else holds one that has none
            name = type(obj).__name__
            capture.trouble(
                f"how far an iterator of type {name} has come can't be read: make a list of it first"
            )
            return [name, "", [], None, None]
        left = len(args[0]) if isinstance(obj, VIEWS) and args and isinstance(args[0], list) else None
        return [
            type(obj).__name__,
            maker.__name__,
            capture.children(args),
            capture.child(state[0] if state else None),
            left,
        ]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh).__name__ == node[1] and isinstance(fresh, self.exact)

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        _, args, *state = reduce_iterator(fresh)
        if isinstance(fresh, VIEWS):
            return
        for child, part in zip(node[3], args, strict=False):
            graft.pair(child, part)
        graft.pair(node[4], state[0] if state else None)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        maker = MAKERS.get(node[2])
        if maker is None:
            raise graft.refuse(f"the checkpoint's graph is damaged: nothing makes an iterator {node[2]!r}")
        args, state = graft.values(node[3]), graft.value(node[4])
        graft.fill(ITERATORS)
        if node[1] == type(reversed([])).__name__ and maker is iter:  # exhausted: reduce says iter([])
            fresh = reversed([])
            next(fresh, None)
            return fresh
        if fresh is not None and not isinstance(fresh, VIEWS):
            _, now_args, *now_state = reduce_iterator(fresh)
            same_lists = all(a is b for a, b in zip(args, now_args, strict=False) if isinstance(a, list))
            if same_lists and alike(
                (tuple(args), state), (tuple(now_args), now_state[0] if now_state else None)
            ):
                return fresh
        return build(maker, args, state)

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        """Only of pinned ones, which are never made anew."""
        _settle(node, obj, graft)


def settle(child: Any, obj: Any, graft: Graft) -> None:
    """Bring an iterator to its saved place without exchanging it, because something holds it that can't be told.

    RefusedError if that can't be done. What lies below it is settled after it: it may have been drawn from.
    """
    node = graft.node(child[0])
    if node[0] != "iterator" or type(obj).__name__ != node[1]:
        graft.pair(child, obj)
        graft.match()
        if graft.value(child) is not obj:
            raise graft.refuse(
                f"an iterator ({node[0]}) can't be brought back to where it was at the checkpoint"
            )
        graft.again(child[0])
        graft.fill(ITERATORS)
        return
    if graft.made.setdefault(child[0], obj) is not obj:
        raise graft.refuse(f"an iterator ({node[1]}) is held in two places that can't be brought together")
    _settle(node, obj, graft)


def _settle(node: Node, obj: Any, graft: Graft) -> None:
    _, now_args, *_ = reduce_iterator(obj)
    if isinstance(obj, enumerate):
        _advance_enumerate(obj, node[3][1])
    args = []
    for each, part in zip(node[3], now_args, strict=False):
        if isinstance(obj, VIEWS):  # a list of what is left, made for us: it begins elsewhere
            args.append(graft.value(each))
        elif hasattr(part, "__next__") and isinstance(each, list):
            settle(each, part, graft)
            args.append(part)
        else:
            graft.pair(each, part)
            graft.match()
            args.append(graft.value(each))
    graft.fill(ITERATORS)
    done = set_in_place(obj, args, graft.value(node[4]), node[5])
    if isinstance(obj, VIEWS) and not graft.lenient:
        done = done and alike(list(args[0]), list(reduce_iterator(obj)[1][0]))
    if not done:
        raise graft.refuse(f"an iterator ({node[1]}) can't be brought back to where it was at the checkpoint")


def leads_to(node: Node, obj: Any, graft: Graft) -> bool:
    """Drawing from the iterator comes by the place of the saved one, as far as can be seen without drawing."""
    if node[0] != "iterator" or type(obj).__name__ != node[1]:
        return bool(node[0] != "iterator")
    now = reduce_iterator(obj)[1]
    if isinstance(obj, VIEWS):
        left = graft.value(node[3][0])
        graft.fill(ITERATORS)
        return bool(len(left) <= len(now[0]) and alike([*left], [*now[0]][len(now[0]) - len(left) :]))
    return all(
        leads_to(graft.node(child[0]), part, graft)
        for child, part in zip(node[3], now, strict=False)
        if isinstance(child, list) and hasattr(part, "__next__")
    )


def build(maker: Any, args: list[Any], state: Any) -> Any:
    """Make an iterator from its reduce parts."""
    with _given_as_they_are(args):
        made = maker(*args)
    if state is not None:
        with warnings_off():
            made.__setstate__(state)
    return made


@contextmanager
def _given_as_they_are(args: list[Any]) -> collections.abc.Iterator[None]:
    """``iter()`` of iterators that classes of the program's make gives these, and does not begin anew."""
    classes = {type(each) for each in args if hasattr(type(each), "__next__")}
    own = [each for each in classes if isinstance(getattr(each, "__iter__", None), types.FunctionType)]
    before = [(each, each.__dict__.get("__iter__")) for each in own]
    for each in own:
        type.__setattr__(each, "__iter__", _itself)
    try:
        yield
    finally:
        for each, function in before:
            if function is None:
                type.__delattr__(each, "__iter__")
            else:
                type.__setattr__(each, "__iter__", function)


def _itself(iterator: Any) -> Any:
    return iterator


def set_in_place(obj: Any, args: list[Any], state: Any, left: int | None) -> bool:
    """Bring an iterator to the saved place without exchanging it; False if that can't be done."""
    _, now_args, *now_state = reduce_iterator(obj)
    now = now_state[0] if now_state else None
    if alike((tuple(args), state), (tuple(now_args), now)):
        return True
    if isinstance(obj, VIEWS):
        return _draw_until_left(obj, left or 0)
    if isinstance(obj, itertools.count):
        return _advance_count(obj, args)
    if type(obj) in SETTABLE and len(args) == len(now_args):
        done = state if type(obj) in FORWARD and isinstance(state, int) else 0
        if all(_same_sequence(a, b, done) for a, b in zip(args, now_args, strict=True)):
            obj.__setstate__(state)
            return True
    if type(obj) in (itertools.cycle, itertools.chain, itertools.accumulate) and state is not None:
        with warnings_off():
            obj.__setstate__(state)
        return True
    if isinstance(obj, itertools.repeat) and args and args[0] is now_args[0]:
        return _draw_until_left(obj, args[1]) if len(args) > 1 else len(now_args) == 1
    return False


def _same_sequence(a: Any, b: Any, done: int) -> bool:
    """Two sequences give the same behind the first ``done`` items, which nobody will see again."""
    if a is b or alike(a, b) or (isinstance(a, range) and a == b):
        return True
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return all(map(same, a[done:], b[done:]))
    return False


def _draw_until_left(obj: Any, left: int) -> bool:
    while obj.__length_hint__() > left:
        next(obj)
    return bool(obj.__length_hint__() == left)


def _advance_count(obj: Any, args: list[Any]) -> bool:
    """A count is moved on by drawing from it; it can't go back."""
    for _ in range(1 << 24):
        if list(reduce_iterator(obj)[1]) == list(args):
            return True
        next(obj)
    return False


def _advance_enumerate(obj: Any, number: int) -> None:
    """Draw until the number is right. What is drawn is lost: the iterator below is settled behind it."""
    while reduce_iterator(obj)[1][1] < number:
        if next(obj, obj) is obj:
            return


def hidden_iterators(obj: types.GeneratorType[Any, Any, Any]) -> list[Any]:
    """Iterators on the value stack of a suspended generator, those of its for loops, be they in variables, too.

    The garbage collector sees variables and stack alike: what it sees more often than there are variables that
    hold it lies on the stack.
    """
    frame = obj.gi_frame
    if frame is None:
        return []
    referents = gc.get_referents(obj)
    if frame in referents and sys.version_info < (3, 11):
        referents = gc.get_referents(frame)
    in_cells = {*frame.f_code.co_cellvars, *frame.f_code.co_freevars}
    own = collections.Counter(id(value) for name, value in frame.f_locals.items() if name not in in_cells)
    found = []
    for each in referents:
        if not hasattr(type(each), "__next__"):
            continue
        own[id(each)] -= 1
        if own[id(each)] == -1:
            found.append(each)
    return found


def pinned(nodes: list[Node]) -> set[int]:
    """Numbers of the iterators that lie on the stacks of generators, and of those below them.

    They can't be exchanged there, so the fresh ones are kept wherever they are met, and settled.
    """
    found: set[int] = set()
    waiting = [child for node in nodes if node is not None and node[0] == "generator" for child in node[5]]
    while waiting:
        child = waiting.pop()
        if isinstance(child, list) and child[0] not in found and nodes[child[0]][0] == "iterator":
            found.add(child[0])
            waiting.extend(nodes[child[0]][3])
    return found


register(Iterator)
