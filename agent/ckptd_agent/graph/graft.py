"""Grafting: the saved graph is laid over the fresh one, and fills it in place.

Both graphs are walked in parallel from the same roots. The first path to an object wins, and a fresh object
is matched only once; saved objects without a match are created. What can't be created (an anchor that the
program has not made again) refuses the resume.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from ckptd.errors import RefusedError
from ckptd_agent.graph.kind import GENERATORS, KEYED, KINDS, Child, Kind, Node, is_child_atom
from ckptd_agent.graph.rows import Rows

T = TypeVar("T")
_BEHIND = 1 << 60
"""Added to the order of pinned iterators: generators, which may draw from them, are filled before."""


class Graft:
    """One laying of the saved graph over the fresh one."""

    def __init__(self, nodes: list[Any], storages: Any, *, lenient: bool = False) -> None:
        self.nodes = nodes
        self.lenient = lenient
        """What can't be restored stands as Gone: the program has not come to the place that makes it again."""
        self.storages = storages
        """Name to the saved bytes, as a memoryview: ckptd.store.reader.OpenCheckpoint.storage."""
        self.stirred = False
        """Code of the program's ran to bring a generator to its place: it may have changed what was filled."""
        self.copied: set[str] = set()
        """Names of storages whose bytes the fresh one has had from an earlier graft."""
        self.fresh: dict[int, Any] = {}
        """Number of a node to the fresh object that was matched with it."""
        self.taken: set[int] = set()
        self.pinned: set[int] = set()
        """Nodes of iterators that lie where they can't be exchanged: see ckptd_agent.state.iterators.settle."""
        self.made: dict[int, Any] = {}
        self._pairs: deque[tuple[int, Any]] = deque()
        self.later: list[Callable[[], None]] = []
        """What is to be done once everything else has succeeded: it changes the job's files."""
        self._late: deque[tuple[Child, Any]] = deque()
        self._keyed: list[tuple[Child, Child, dict[Any, Any]]] = []
        self._fill: list[tuple[int, int, Any]] = []
        """Turn, order, and the number of a node, or Rows with their numbers and objects."""
        self._making: list[Rows] = []
        self._complete: set[int] = set()
        """Nodes whose keys have been filled, so that they can be hashed."""
        self._order = 0
        self._kept: list[Any] = []
        self._scratch: dict[type, Any] = {}

    def node(self, number: int) -> Node:
        """The node of that number, by itself."""
        node = self.nodes[number]
        if type(node) is Rows:
            node = self.nodes[number] = node.node(number)
        return node  # type: ignore[no-any-return]

    # ---- matching ---------------------------------------------------------------------------------

    def pair(self, child: Child, fresh: Any) -> None:
        """A saved child and a fresh object stand in the same place."""
        if not is_child_atom(child):
            self._pairs.append((child[0], fresh))

    def pair_key(self, key: Child, value: Child, fresh: dict[Any, Any]) -> None:
        """An item of a dict whose key is an object: paired once the key has found its match."""
        self._keyed.append((key, value, fresh))

    def pair_late(self, child: Child, fresh: Any) -> None:
        """As ``pair``, but behind all other paths: for objects that most likely are matched on their own."""
        self._late.append((child, fresh))

    def match(self) -> None:
        """Walk on from all pairs given so far."""
        while self._pairs or self._keyed or self._late:
            while self._pairs:
                number, fresh = self._pairs.popleft()
                self._match_one(number, fresh)
            if self._late:
                self.pair(*self._late.popleft())
                continue
            keyed, self._keyed = self._keyed, []
            for key, value, fresh in keyed:
                found = self._fresh_key(key[0])
                try:
                    if found is not None and found in fresh:
                        self.pair(value, fresh[found])
                except TypeError:
                    continue  # a key that can't be hashed as it is now

    def _fresh_key(self, number: int) -> Any:
        """What a dict's key was matched with. One that is an address is never matched: its object was."""
        node = self.nodes[number]
        if node[0] != "address":
            return self.fresh.get(number)
        found = self.fresh.get(node[1][0])
        return None if found is None else id(found)

    def _match_one(self, number: int, fresh: Any) -> None:
        if number in self.fresh or number in self.made or id(fresh) in self.taken:
            return
        node = self.node(number)
        kind = KINDS[node[0]]
        if not kind.fits(node, fresh, self):
            return
        self.fresh[number] = fresh
        self.taken.add(id(fresh))
        self._kept.append(fresh)
        kind.match(node, fresh, self)

    # ---- restoring --------------------------------------------------------------------------------

    def value(self, child: Child) -> Any:
        """The restored object of a child; mutable ones may still have to be filled."""
        if is_child_atom(child):
            return shared(child) if type(child) is str else child
        number: int = child[0]
        if number in self.made:
            return self.made[number]
        node = self.nodes[number]
        if type(node) is Rows:
            if node not in self._making and self._made_rows(node):
                return self.made[number]
            node = self.node(number)
        kind = KINDS[node[0]]
        fresh = self.fresh.get(number)
        pinned = number in self.pinned and number in self.fresh
        if pinned or (kind.mutable and number in self.fresh):
            obj = fresh
        else:
            obj = self._made(kind, node, fresh)
        self.made[number] = obj
        self._kept.append(obj)
        if kind.mutable and not is_gone(obj):
            self._order += 1
            heapq.heappush(self._fill, (kind.turn, self._order, number))
        elif pinned and not self.lenient:  # at a stage the generator that draws from it may not be there yet
            self._order += 1
            heapq.heappush(self._fill, (kind.turn, _BEHIND + self._order, number))
        return obj

    def _made(self, kind: Kind, node: Node, fresh: Any) -> Any:
        try:
            return kind.make(node, fresh, self)
        except (RefusedError, GoneError):
            if not self.lenient:
                raise
        return Gone(str(node[1]) if kind.name in ("anchor", "reduced") else kind.name)

    def _made_rows(self, rows: Rows) -> bool:
        """Make all objects of some rows that no fresh one was matched with; False: each is to be made by itself."""
        nodes, made = self.nodes, self.made
        numbers = [number for number in rows.numbers if nodes[number] is rows and number not in made]
        kind, sample = KINDS[rows.kind], rows.node(numbers[0])
        self._making.append(rows)
        try:
            if kind.mutable:
                objects = [kind.make(sample, None, self) for _ in numbers]
                self._order += 1
                heapq.heappush(self._fill, (kind.turn, self._order, (rows, numbers, objects)))
            else:
                objects = kind.make_rows(sample, rows.values(numbers, self.values), self)
        except (RefusedError, GoneError):
            if not self.lenient:
                raise
            return False
        finally:
            self._making.pop()
        new = dict(zip(numbers, objects, strict=True))
        for number in (
            new.keys() & made.keys()
        ):  # some row refers to another one, which was made by itself for it
            del new[number]
        made.update(new)
        return True

    def _filled_rows(self, rows: Rows, numbers: list[int], objects: list[Any]) -> None:
        kind = KINDS[rows.kind]
        values = rows.values(numbers, self.values)
        kind.fill_rows(rows.node(numbers[0]), objects, self.values(rows.names or []), values, self)

    def _filled(self, kind: Kind, number: int) -> None:
        try:
            kind.fill(self.node(number), self.made[number], self)
        except (RefusedError, GoneError):
            if not self.lenient:
                raise

    def values(self, children: Any) -> list[Any]:
        """The restored objects of several children."""
        types = set(map(type, children)) if type(children) is list else {list}
        if list in types:
            return [self.value(each) for each in children]
        if str in types:
            return [shared(each) if type(each) is str else each for each in children]
        return list(children)

    def again(self, number: int) -> None:
        """Let an object that may have been filled already be filled once more."""
        self._order += 1
        heapq.heappush(self._fill, (KINDS[self.nodes[number][0]].turn, self._order, number))

    def fill_again(self) -> None:
        """Fill everything once more but iterators, which stand where they should, and random generators."""
        self.stirred = False
        for number in list(self.made):
            kind = KINDS[self.nodes[number][0]]
            kind.refresh(self.nodes[number], self.made[number], self)
            if kind.mutable and kind.turn <= KEYED:
                self.again(number)
        self.fill(KEYED)

    def fill(self, last: int = GENERATORS) -> None:
        """Fill all objects that ``value`` has handed out, and what they lead to, up to those of turn ``last``."""
        while self._fill and self._fill[0][0] <= last:
            entry = heapq.heappop(self._fill)
            number = entry[2]
            if type(number) is tuple:
                self._filled_rows(*number)
                continue
            node = self.node(number)
            kind = KINDS[node[0]]
            if number not in self._complete:
                self._complete.add(number)
                keys = kind.keys(node)
                if keys:
                    self.values(keys)
                    heapq.heappush(self._fill, entry)
                    continue
            self._filled(kind, number)

    def is_class(self, child: Child, cls: type) -> bool:
        """Whether a class node stands for this very class."""
        return not is_child_atom(child) and KINDS["class"].fits(self.node(child[0]), cls, self)

    def the_class(self, child: Child, base: type) -> Any:
        """The class of a saved object: one that the program has defined or imported, derived from ``base``."""
        cls = self.value(child)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise RefusedError(
                f"the checkpoint's graph is damaged: {cls!r} is not derived from {base.__name__}"
            )
        return cls

    def restore_again(self) -> None:
        """Forget what was filled, so that the next ``fill`` does it anew; matches stay."""
        self.made.clear()
        self._complete.clear()

    def scratch(self, cls: type[T]) -> T:
        """The one instance of a kind's own table for this graft."""
        found = self._scratch.get(cls)
        if found is None:
            found = self._scratch[cls] = cls()
        return found

    def variable(self, child: Child) -> Any:
        """The value of a frame's variable. One that the program has not made again may stand as Gone there:
        most often it is left over from the iteration before, and the program assigns it anew."""
        if is_child_atom(child) or child[0] in self.fresh:
            return self.value(child)
        try:
            return self.value(child)
        except RefusedError:
            return Gone(self._type_of(child[0]))

    def _type_of(self, number: int) -> str:
        """The name of a saved object's type, for people: of its class where the node has one, or of its kind."""
        kind, *parts = self.node(number)
        if kind in ("anchor", "reduced"):
            return str(parts[0])
        if parts and type(parts[0]) is list and len(parts[0]) == 1 and type(parts[0][0]) is int:
            cls = self.node(parts[0][0])
            if cls[0] == "class":
                return f"{cls[1]}.{cls[2]}"
        return str(kind)

    def missing(self, what: str) -> Any:
        """An object is needed that the program has not made again."""
        raise RefusedError(
            f"an object of type {what}, which the state at the checkpoint refers to, has not been made again when the "
            "program came to that place; it can't be carried over by itself"
        )

    def refuse(self, sentence: str) -> RefusedError:
        """An error to raise: the resume can't be exact."""
        return RefusedError(sentence)


class Gone:
    """Stands where an object was that the program has not made again. Whatever is done with it fails, loudly."""

    def __init__(self, what: str) -> None:
        object.__setattr__(self, "_ckptd_what", what)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__", "__reduce_ex__"):
            return object.__getattribute__(self, name)
        what = object.__getattribute__(self, "_ckptd_what")
        raise GoneError(
            f"ckptd: this variable held an object of type {what}, which can't be carried over a resume"
        )

    def __bool__(self) -> bool:
        return bool(self.anything)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.anything

    def __iter__(self) -> Any:
        return self.anything


class GoneError(RuntimeError):
    """Something was done with what could not be carried over."""


def is_gone(obj: Any) -> bool:
    """Whether the object stands for one that is not there; asks nothing of the object itself."""
    return type(obj) is Gone


def kept(old: dict[Any, Any], keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    """The saved items, with the strings of the fresh ones where these are equal: which strings are one object
    can be seen in the bytes of a pickle."""
    own = {key: key for key in old if type(key) is str}
    new = {}
    for key, value in zip(keys, values, strict=True):
        if type(value) is str and old.get(key) == value:
            value = old[key]
        new[own.get(key, key) if type(key) is str else key] = value
    return new


def shared(text: str) -> str:
    """A string that looks like a name is the one that all code shares, as constants are: pickle writes an object
    that is met again as a reference, so the bytes of a file hang on which strings are one object."""
    return (
        sys.intern(text) if len(text) < 80 and text.isascii() and text.replace("_", "a").isalnum() else text
    )
