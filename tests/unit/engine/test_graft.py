"""Captured objects come back, in place where the program has made them again."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import itertools
import pathlib
import random
import re
import types

import numpy
import pytest
import torch

from ckptd.errors import RefusedError
from ckptd_agent import link
from ckptd_agent.graph import document
from ckptd_agent.graph.capture import Capture
from ckptd_agent.state import kinds, sharing  # noqa: F401 - kinds registers them


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self, **own):
        self.__dict__.update(own)


class Slotted:
    __slots__ = ("__hidden", "a", "b")
    b: int

    def __init__(self, a):
        self.a = a
        self.__hidden = a

    def hidden(self):
        return self.__hidden


class Registry(dict):
    pass


@dataclasses.dataclass
class Record:
    number: int
    names: list = dataclasses.field(default_factory=list)


Pair = collections.namedtuple("Pair", "left right")


VALUES = [
    None, True, -(1 << 63), (1 << 63), 1 << 200, -1.5, float("inf"), 2 - 3j, "täxt", b"\x00\xff", bytearray(b"ab"),
    [1, [2.5, "x"], (3, (4,))], {"a": 1, 2: {3}, (4, 5): None}, frozenset({1, 2}), collections.deque([1, 2], maxlen=3),
    collections.OrderedDict([("b", 1), ("a", 2)]), collections.Counter("abca"), Pair(1, [2]), range(3, 9, 2),
    slice(1, None, 2), Ellipsis, Colour.RED, re.compile("a.b", re.IGNORECASE), datetime.datetime(2026, 1, 2, 3, 4, 5),
    datetime.timedelta(days=1), decimal.Decimal("1.50"), pathlib.PurePosixPath("a/b"), numpy.float32(1.5),
    numpy.dtype("int16"), torch.float16, torch.device("cpu"), torch.Size([2, 3]), Record(3, ["x"]),
    types.SimpleNamespace(a=1), collections.defaultdict(list, {"a": [1]}), inspect.signature(lambda a, *b, c=2: None),
    torch.sum, len,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}")
def test_values_come_back_out_of_nothing(over, value):
    back = over([value])[0]
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)


def test_not_a_number_and_the_sign_of_zero(over):
    back = over([float("nan"), -0.0])
    assert str(back) == "[nan, -0.0]"


def test_what_is_shared_stays_shared(over):
    inner = [1]
    loop: list[object] = [inner]
    loop.append(loop)
    back = over({"a": inner, "b": inner, "loop": loop})
    assert back["a"] is back["b"] is back["loop"][0]
    assert back["loop"][1] is back["loop"]


def test_fresh_objects_are_filled_in_place(over):
    saved = {"rows": [1, 2, 3], "own": Plain(x=[1], gone=None)}
    rows: list[int] = [9]
    x: list[int] = []
    own = Plain(x=x, more=2)
    fresh = {"rows": rows, "own": own, "later": 1}
    back = over(saved, fresh)
    assert back is fresh
    assert back["rows"] is rows == [1, 2, 3]
    assert back["own"] is own
    assert own.__dict__["x"] is x == [1]
    assert list(own.__dict__) == ["x", "gone"]
    assert "later" not in back


def test_a_fresh_object_is_matched_but_once(over):
    one, two = [1], [2]
    same = [0]
    back = over([one, two], [same, same])
    assert back == [[1], [2]]
    assert back[0] is same
    assert back[1] is not same


def test_slots_and_mangled_names(over):
    fresh = Slotted("new")
    fresh.b = 2
    back = over([Slotted("old")], [fresh])[0]
    assert back is fresh
    assert (back.a, back.hidden(), hasattr(back, "b")) == ("old", "old", False)


def test_closures_functions_methods_and_partials(over):
    def counter(start):
        count = start

        def step(by=1, *, log=[]):  # noqa: B006 - a default that is state
            nonlocal count
            count += by
            log.append(count)
            return count, len(log)

        return step

    saved, fresh = counter(0), counter(100)
    saved(5)
    saved.calls = 1
    back = over(
        [saved, saved.__call__, functools.partial(saved, 2)],
        [fresh, fresh.__call__, functools.partial(fresh, 0)],
    )
    assert back[0] is fresh
    assert fresh.calls == 1
    assert back[0]() == (6, 2)
    assert back[2]() == (8, 3)


def test_a_bound_method_of_a_restored_object(over):
    saved, fresh = [1], [2]
    back = over([saved, saved.append], [fresh, fresh.append])
    back[1](3)
    assert back[0] is fresh == [1, 3]


def test_tensors_share_memory_as_they_did(over):
    base = torch.arange(12.0)
    saved = {"base": base, "view": base[2:6].reshape(2, 2), "row": torch.ones(3)}
    saved["tied"] = saved["row"]
    fresh_base = torch.zeros(12)
    fresh = {
        "base": fresh_base,
        "view": fresh_base[2:6].reshape(2, 2),
        "row": torch.zeros(3),
        "tied": torch.zeros(3),
    }
    back = over(saved, fresh)
    assert back["base"] is fresh_base
    assert torch.equal(fresh_base, base)
    back["base"][2] = 50
    assert back["view"][0, 0] == 50
    assert back["tied"] is back["row"]


def test_a_parameter_stays_the_same_object_with_its_gradient(over):
    saved = torch.nn.Linear(3, 2)
    saved(torch.ones(1, 3)).sum().backward()
    fresh = torch.nn.Linear(3, 2)
    weight = fresh.weight
    pointer = weight.data_ptr()
    back = over(saved, fresh)
    assert back.weight is weight
    assert weight.data_ptr() == pointer
    assert torch.equal(weight, saved.weight)
    assert weight.grad is not None
    assert saved.weight.grad is not None
    assert torch.equal(weight.grad, saved.weight.grad)
    assert isinstance(weight, torch.nn.Parameter)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.complex64, torch.uint8]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
def test_tensors_of_every_type_and_shape(over, dtype, shape):
    value = (
        (torch.rand(shape) * 100).to(dtype).t() if len(shape) == 2 else (torch.rand(shape) * 100).to(dtype)
    )
    back = over([value])[0]
    assert (back.dtype, back.shape, back.stride()) == (value.dtype, value.shape, value.stride())
    assert torch.equal(back, value)


def test_an_optimizer_finds_its_parameters_again(over):
    def make():
        net = torch.nn.Linear(4, 4)
        return {"net": net, "opt": torch.optim.Adam(net.parameters(), lr=0.1)}

    def step(all_):
        all_["net"](torch.ones(2, 4)).pow(2).sum().backward()
        all_["opt"].step()

    saved, fresh = make(), make()
    step(saved)
    back = over(saved, fresh)
    assert set(back["opt"].state) == set(back["net"].parameters())
    step(saved)
    step(back)
    assert torch.equal(saved["net"].weight, back["net"].weight)


def test_a_graph_from_before_is_read_but_not_differentiated(over, monkeypatch):
    def refuse(why):  # the real one ends the process
        raise RuntimeError(why)

    monkeypatch.setattr(link, "refuse", refuse)
    weight = torch.ones(2, requires_grad=True)
    loss = (weight * 3).sum()
    back = over([loss])[0]
    assert back.item() == 6
    assert back.requires_grad
    with pytest.raises(RuntimeError, match="interruption"):
        (back * 2).backward()


def test_arrays_in_place_and_of_objects(over):
    saved = [
        numpy.arange(6).reshape(2, 3).copy(),
        numpy.array([[1, "a"], [None, 2.5]], dtype=object),
        numpy.asfortranarray(numpy.eye(3)),
    ]
    fresh = [numpy.zeros((2, 3), dtype=saved[0].dtype), None, None]
    kept = fresh[0]
    back = over(saved, fresh)
    assert back[0] is kept
    assert (kept == saved[0]).all()
    assert back[1].tolist() == saved[1].tolist()
    assert back[2].flags.f_contiguous
    fields = numpy.zeros(2, dtype=[("x", "<f4"), ("n", "<i8")])
    assert over([fields])[0].dtype == fields.dtype


def test_random_generators_go_on(over):
    saved = [
        random.Random(1),
        numpy.random.default_rng(2),
        numpy.random.RandomState(3),
        torch.Generator().manual_seed(4),
    ]
    fresh = [random.Random(9), numpy.random.default_rng(9), numpy.random.RandomState(9), torch.Generator()]

    def draw(four):
        return (
            four[0].random(),
            four[0].gauss(0, 1),
            four[1].random(),
            four[2].normal(),
            torch.rand(1, generator=four[3]).item(),
        )

    draw(saved)
    back = over(saved, fresh)
    assert all(a is b for a, b in zip(back, fresh, strict=True))
    assert draw(back) == draw(saved)


ITERATORS = [
    lambda: iter([1, 2, 3, 4]), lambda: iter((1, 2, 3)), lambda: iter("abc"), lambda: iter(range(5)),
    lambda: reversed([1, 2, 3]), lambda: enumerate("abcd", 5), lambda: zip([1, 2, 3], "abc", strict=False),
    lambda: map(str, [1, 2, 3]), lambda: filter(None, [1, 0, 2, 3]), lambda: itertools.count(3, 2),
    lambda: itertools.cycle("ab"), lambda: itertools.chain([1], [2, 3]), lambda: itertools.islice(range(9), 1, 7, 2),
    lambda: iter({"a": 1, "b": 2, "c": 3}.items()), lambda: itertools.accumulate([1, 2, 3]),
    lambda: itertools.product("ab", "cd"), lambda: enumerate(zip("abc", itertools.count(), strict=False)),
]  # fmt: skip


@pytest.mark.parametrize("make", ITERATORS)
@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_iterators_go_on(over, make, drawn):
    saved = make()
    for _ in range(drawn):
        next(saved)
    back = over([saved], [make()])[0]
    assert list(itertools.islice(back, 6)) == list(itertools.islice(saved, 6))


def numbered(rows, scale):
    total = 0
    for number, row in enumerate(rows):
        total += row * scale
        yield number, total
    yield "end", total


@pytest.mark.parametrize("drawn", [0, 1, 3, 4, 5])
def test_generators_go_on(over, drawn):
    saved = numbered([1, 2, 3], 10)
    for _ in range(drawn):
        next(saved, None)
    back = over([saved], [numbered([7, 8, 9], 1)])[0]
    assert list(back) == list(saved)


def test_what_the_program_has_not_made_again_is_refused(over):
    import threading

    with pytest.raises(RefusedError, match="lock"):
        over([threading.Lock()])


def test_classes_keep_what_they_count(over):
    saved = {"cls": Counted}
    Counted.made = 7
    capture = Capture()
    root = capture.child(saved)
    capture.run()
    Counted.made = 0
    from ckptd_agent.source import table

    assert root == [0]
    node = next(node for node in capture.nodes if node[0] == "class")
    assert node[2] == "Counted"
    assert ("made" in node[3]) == (__name__ in table.SOURCES)


class Counted:
    made = 0


def test_many_objects_alike_keep_what_they_share(over):
    states = [(n, [n]) for n in range(100)]
    rows = [(states[n], n, float(n), states[(n + 1) % 100]) for n in range(100)]
    chain: list[tuple[object]] = [(None,)]
    for _ in range(99):
        chain.append((chain[-1],))  # each in the same level as the one that it refers to
    back_rows, back_chain = over([rows, chain, states, rows + rows[:50]])[:2]
    assert back_rows == rows
    assert all(back_rows[n][3] is back_rows[(n + 1) % 100][0] for n in range(100))
    assert back_rows[3][0][1] is back_rows[2][3][1]
    assert all(back_chain[n + 1][0] is back_chain[n] for n in range(99))


def test_every_number_has_a_node_that_can_be_asked_for_its_kind():
    shared = [(n,) for n in range(50)]
    capture = Capture()
    capture.child([shared, [*shared, *((n,) for n in range(50, 100))], [shared[0]] * 99])
    capture.run()
    known = document.unpack(document.pack({"version": document.VERSION, "nodes": capture.nodes}))
    assert all(isinstance(node[0], str) for node in known["nodes"])


def test_many_lists_that_lead_back_to_themselves(over):
    loops: list[list[object]] = [[n] for n in range(100)]
    for n, each in enumerate(loops):
        each.append(loops[n - 1])
        each.append(loops)
    back = over(loops)
    assert all(each[0] == n and each[1] is back[n - 1] and each[2] is back for n, each in enumerate(back))


def test_some_of_many_are_there_already(over):
    saved = [{"n": n, "own": [n]} for n in range(100)]
    fresh = [{"n": -1, "own": [-1]} for n in range(3)]
    first, own = fresh[0], fresh[2]["own"]
    back = over(saved, fresh)
    assert back == saved
    assert back[0] is first
    assert back[2]["own"] is own


def test_many_atoms_stay_what_they_are(over):
    ints = [True, False, 1 << 63, -(1 << 63), 1 << 70] * 20
    saved = [
        ints,
        [n << 60 for n in range(100)],
        [float(n) for n in range(100)],
        [True] * 100,
        [1, "a", None] * 50,
    ]
    back = over(saved)
    assert repr(back) == repr(saved)
    assert back[0][2] is back[0][7]


def test_many_small_arrays_share_a_storage_but_not_their_memory(over):
    saved = [numpy.full((2, 3), n, dtype=numpy.float32) for n in range(100)]
    tensor = torch.from_numpy(saved[5])
    back, same, again = over([saved, tensor, saved[7]])
    assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(saved, back, strict=True))
    same += 1
    assert (back[5] == 6).all()
    assert (back[4] == 4).all()
    assert again is back[7]


def test_many_instances_and_named_tuples(over):
    plain = [Plain(a=n, b=[n]) for n in range(50)]
    pairs = [Pair(n, [n]) for n in range(50)]
    back = over([plain, pairs, Plain, Pair], [None, None, Plain, Pair])
    assert [vars(each) for each in back[0]] == [vars(each) for each in plain]
    assert back[1] == pairs
    assert type(back[1][0]) is Pair
