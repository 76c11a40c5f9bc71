"""Sets: their order, and how they go on."""

from __future__ import annotations

import random

import pytest

from ckptd.errors import RefusedError


class Plain:
    def __init__(self, n: int) -> None:
        self.n = n


def test_sets_keep_their_order_and_their_table(over, seeded):
    for trial in range(60):
        value = set()
        for _ in range(seeded.choice([3, 9, 20, 70, 400])):
            value.add(
                seeded.choice([f"w{seeded.randrange(10**6)}", seeded.randrange(10**9), (seeded.random(),)])
            )
        if trial % 3 == 0:
            value = set(value)
        value.pop()
        value = {*value}
        back = over([value], [set()] if trial % 2 else None)[0]
        assert list(back) == list(value)
        value.update(range(100, 140))
        back.update(range(100, 140))
        assert list(back) == list(value)


def change_set(value: set[object], drawn: random.Random, times: int) -> set[object]:
    """All that programs do to sets, drawn at random."""
    for _ in range(times):
        others = {drawn.randrange(200) for _ in range(drawn.randrange(12))}
        each = drawn.choice([drawn.randrange(60), str(drawn.randrange(60)), (drawn.randrange(9), 1)])
        do = drawn.choice(
            ["add"] * 5 + ["discard", "discard", "pop", "|=", "-=", "^=", "&=", "copy", "clear"]
        )
        if do in ("add", "discard"):
            getattr(value, do)(each)
        elif do == "pop" and value:
            value.pop()
        elif do == "|=":
            value |= others
        elif do == "-=":
            value -= others
        elif do == "^=":
            value ^= others
        elif do == "&=":
            value &= {*[*value][: drawn.randrange(1, 9)], *others}
        elif do == "copy":
            value = set(value)
        elif do == "clear" and drawn.random() < 0.2:
            value.clear()
    return value


def test_sets_go_on_exactly_as_the_saved_one_would_have(over, seeded):
    """Whatever was done to them before, and is done behind the resume."""
    for _ in range(250):
        seed = seeded.randrange(10**9)
        value = change_set(set(), random.Random(seed), seeded.randrange(1, 80))
        back = over([value], [{1, 2}])[0]
        assert [*back] == [*value]
        mine, its = (change_set(each, random.Random(seed + 1), 40) for each in (value, back))
        assert [*its] == [*mine], seed


def test_a_set_ordered_by_address_is_refused(over):
    things = [Plain(n=i) for i in range(64)]
    with pytest.raises(RefusedError, match="order"):
        over([set(things)])
