"""What differs between two checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptd.store.contents import Contents, TensorView, figures, read_contents
from ckptd.store.manifest import Manifest
from ckptd.store.naming import short_names, spec
from ckptd.store.offline import ask
from ckptd.store.reader import OpenCheckpoint


@dataclass
class TensorChange:
    """One tensor in both, or in one of them."""

    name: str
    change: str
    """'same', 'changed', 'reshaped' (or of another type), 'added', 'removed'."""
    shape: list[int]
    dtype: str
    nbytes: int
    measure: dict[str, Any] = field(default_factory=dict)
    """Of what changed: norm (of the difference), norm_before, cosine, elements, elements_changed."""


@dataclass(frozen=True)
class VariableChange:
    """A variable whose value reads differently; None: it isn't there."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Difference:
    """Of two checkpoints, the first of them called A."""

    a: Manifest
    b: Manifest
    figures: list[tuple[str, Any, Any]]
    variables: list[VariableChange]
    tensors: list[TensorChange]


def compare(
    a: Path, b: Path, advance: Callable[[int], None] = lambda _: None,
    reading: Callable[[int], None] = lambda _: None,
) -> Difference:  # fmt: skip
    """Compare two checkpoints; ``advance`` is called with bytes compared, ``reading`` with parts of 2 * WHOLE before.

    Raises CkptdError.
    """
    with OpenCheckpoint(a) as one, OpenCheckpoint(b) as other:
        contents = read_contents(one, reading), read_contents(other, reading)
        left, right = short_names(contents[0]), short_names(contents[1])
        changes: list[TensorChange] = []
        pairs: list[dict[str, Any]] = []
        for name in [*left, *(name for name in right if name not in left)]:
            old, new = left.get(name), right.get(name)
            changes.append(_change(name, old, new, one, other))
            if changes[-1].change == "changed" and old is not None and new is not None:
                pairs.append({"name": name, "a": spec(old), "b": spec(new)})
            else:
                advance(changes[-1].nbytes)
        by_name = {change.name: change for change in changes}
        if pairs:
            for answer in ask("compare", {"a": str(a), "b": str(b), "pairs": pairs}):
                change = by_name[answer.pop("name")]
                change.measure = answer
                advance(change.nbytes)
        return Difference(
            one.manifest,
            other.manifest,
            _figures(one.manifest, other.manifest),
            _variables(*contents),
            changes,
        )


def _change(
    name: str, old: TensorView | None, new: TensorView | None, a: OpenCheckpoint, b: OpenCheckpoint
) -> TensorChange:
    view = new or old
    assert view is not None
    if old is None or new is None:
        kind = "added" if old is None else "removed"
    elif (old.shape, old.dtype) != (new.shape, new.dtype):
        kind = "reshaped"
    else:
        kind = "same" if _same(old, new, a, b) else "changed"
    return TensorChange(name, kind, view.shape, view.dtype, view.nbytes)


def _same(old: TensorView, new: TensorView, a: OpenCheckpoint, b: OpenCheckpoint) -> bool:
    """Whether the bytes are: by their hashes where both have one of the same kind, else by themselves."""
    if (old.stride, old.offset) != (new.stride, new.offset):
        return False
    left, right = a.storages.get(old.storage), b.storages.get(new.storage)
    if left is None or right is None:
        return False
    if left.key == right.key and left.digest:
        return True
    return left.nbytes == right.nbytes and a.storage(old.storage) == b.storage(new.storage)


def _figures(a: Manifest, b: Manifest) -> list[tuple[str, Any, Any]]:
    left, right = dict(figures(a.facts)), dict(figures(b.facts))
    names = list(dict.fromkeys([*left, *right]))
    return [("step", a.step, b.step), *((name, left.get(name), right.get(name)) for name in names)]


def _variables(a: Contents, b: Contents) -> list[VariableChange]:
    left = {each.path: each.value for each in a.variables}
    right = {each.path: each.value for each in b.variables}
    return [
        VariableChange(name, left.get(name), right.get(name))
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]
