"""What the agent digests, under which names: a change is seen, and nothing of the program's is changed by looking."""

from __future__ import annotations

import random
import sys
from collections import deque

import numpy
import pytest
import torch
from torch import nn

from ckptd_agent import digests


def walk(**variables):
    found = digests.Walk()
    for name, value in variables.items():
        found.visit(name, value, 0)
    found.finish()
    return found.found


def changed(before, after):
    return [
        name for name in {**before, **after} if before.get(name, ("", ""))[1] != after.get(name, ("", ""))[1]
    ]


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_names_lead_from_the_programs_variables(trained):
    model, optimizer = trained
    found = walk(optimizer=optimizer, net=model)
    kinds = {name: kind for name, (kind, _, _) in found.items()}
    assert kinds["net.0.weight"] == kinds["net.1.bias"] == "parameter"
    assert kinds["net.1.running_mean"] == "buffer"
    assert kinds["optimizer.state[net.0.weight].momentum_buffer"] == "optimizer"
    assert kinds["optimizer.param_groups[0]['lr']"] == "optimizer"


def test_one_value_that_changes_is_one_name(trained):
    model, optimizer = trained
    before = walk(net=model, optimizer=optimizer)
    assert walk(net=model, optimizer=optimizer) == before
    with torch.no_grad():
        model[0].weight[1, 2] += 1e-6
    assert changed(before, walk(net=model, optimizer=optimizer)) == ["net.0.weight"]
    before = walk(net=model, optimizer=optimizer)
    optimizer.param_groups[0]["lr"] = 0.05
    assert changed(before, walk(net=model, optimizer=optimizer)) == ["optimizer.param_groups[0]['lr']"]
    before = walk(net=model, optimizer=optimizer)
    optimizer.state[model[0].bias]["momentum_buffer"][0] += 1
    assert changed(before, walk(net=model, optimizer=optimizer)) == [
        "optimizer.state[net.0.bias].momentum_buffer"
    ]


@pytest.mark.parametrize(
    ("one", "two", "name"),
    [
        (0.0, -0.0, "x"), (1, 1.0, "x"), (True, 1, "x"), (float("nan"), 1.0, "x"), ("a", b"a", "x"),
        pytest.param(10**5000, 10**5000 + 1, "x", id="huge"), ({1, 2}, {1, 3}, "x"), ([1, 2], [2, 1], "x"),
        ({"a": 1}, {"a": 2}, "x['a']"), ([[1], [2]], [[1], [3]], "x[1]"), (deque([1.5]), deque([2.5]), "x"),
        (numpy.arange(3), numpy.arange(3) * 2, "x"), (numpy.float32(1), numpy.float32(2), "x"),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64), "x"),
        (torch.zeros(2, 3), torch.zeros(3, 2), "x"),
        (torch.tensor(1 + 2j).conj(), torch.tensor(1 + 2j), "x"),
        (torch.ones(3, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16), "x"),
        (random.Random(1), random.Random(2), "x"),
        (numpy.random.default_rng(1), numpy.random.default_rng(2), "x"),
    ],
)  # fmt: skip
def test_values_that_differ_have_other_digests(one, two, name):
    assert changed(walk(x=one), walk(x=two)) == [name]
    assert walk(x=one) == walk(x=one)


def test_a_cycle_and_a_deep_list_come_to_an_end():
    cycle: list = [1, "a"]
    cycle.append(cycle)
    deep: list = []
    for _ in range(100):
        deep = [deep, {}]
    assert len(walk(cycle=cycle, deep=deep)) < 200


def test_a_long_list_is_looked_at_at_its_ends():
    long = [[number] for number in range(100_000)]
    before = walk(x=long)
    long[-1][0] = -1
    assert changed(before, walk(x=long)) == ["x[99999]"]
    assert len(before) < 1000


def test_what_can_not_be_read_is_left_out():
    sparse = torch.eye(3).to_sparse()
    assert walk(a=sparse, b=torch.empty(3, device="meta"), c=object(), d=torch.empty(0)).keys() == {"d"}


def test_looking_draws_nothing_and_keeps_nothing(trained):
    model, optimizer = trained
    states = digests.random_states()
    tensor = torch.randn(5, requires_grad=True)
    version, references = tensor._version, sys.getrefcount(tensor)
    states = digests.random_states()
    walk(model=model, optimizer=optimizer, tensor=tensor)
    assert digests.random_states() == states
    assert (tensor._version, sys.getrefcount(tensor)) == (version, references)
    random.random()
    assert changed(states, digests.random_states()) == ["rng:python"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (torch.tensor(0.1), "0.100000001"), (torch.tensor([1.0, 2.5]), "[1, 2.5]"), ("a" * 100, "'" + "a" * 56 + "..."),
        (torch.ones(4, 4), "float32[4, 4] of norm 4"), (torch.ones(5, dtype=torch.int64), "int64[5]"),
        (numpy.zeros((2, 2)), "float64[2, 2]"),
    ],
)  # fmt: skip
def test_what_people_are_shown(value, shown):
    assert walk(x=value)["x"][2] == shown
