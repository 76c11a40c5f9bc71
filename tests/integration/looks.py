"""Programs that look at themselves, as text; test_harm runs them plain and under ckptd."""

from __future__ import annotations

TRAIN = """\
import sys
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())


def train(steps):
    total = 0.0
    for step in range(steps):
        loss = model(torch.randn(8, 4)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        print(f"step {step} loss {loss.item():.9f}")
        if step == HOOK_AT:
            hook(step)
    return total


HOOK_AT = 3


def hook(step):
    pass


"""
"""A small training; what each program adds comes behind it. It has 46 lines."""

LOOKS = {
    # What a program can see of itself. dir(), locals() and vars() are asked where loops are open.
    "names": TRAIN
    + """\
import __main__

print(dir())
print(sorted(globals()), sorted(locals()), sorted(vars(__main__)))
print({k: v for k, v in globals().items() if k.startswith("__") and k not in ("__builtins__", "__loader__")})
print(type(__loader__), type(__builtins__), __loader__.name, __loader__.path == __file__)


class Holder:
    for name in ("a", "b"):
        print(len(name), dir())


def look(n):
    for i in range(n):
        while True:
            print(locals(), dir(), sorted(vars()), eval("i"))
            break
        for j, (k, *rest) in enumerate([(1, 2, 3)]):
            print({name: value for name, value in locals().items()})
            train(1)
    else:
        print("over", dir())
    return locals(), look.__code__.co_varnames, look.__code__.co_name


print(look(2), [dir() for _ in range(1)], (lambda x: dir())(1))
for index in range(2):
    print(dir())
    print(str(index).strip())
while index:
    index -= int(str(1).strip())
    print(dir())
exec("for q in range(2): print(str(q).strip(), 'q' in dir())")
print(dir(), sys.argv[1:], sys.path[0] != "", len(sys.modules["__main__"].__dict__))
""",
    "sources": """\
import inspect
import linecache

import beside


def search(values):
    # a comment
    for value in values:
        if str(value) == "b": return value
    else:
        return None


class Model(beside.Base):
    def fit(self):
        while True:
            if self.step():
                break


for thing in (search, Model, Model.fit, beside, beside.Base.step, beside.run):
    print(inspect.getsource(thing), inspect.getsourcelines(thing)[1], inspect.getsourcefile(thing))
print(inspect.signature(search), search.__doc__, inspect.getcomments(Model), linecache.getline(__file__, 5))
print(Model().fit(), search("abc"), beside.run(3), beside.__spec__.origin, beside.__file__, beside.__cached__)
print(beside.__spec__.loader.get_source("beside") == inspect.getsource(beside))
""",
    "tracebacks": """\
import logging
import sys
import traceback
import warnings

import beside

logging.basicConfig(stream=sys.stdout, format="%(filename)s:%(lineno)d %(funcName)s %(message)s")


def fail(n, *more):
    if n > 1:
        raise ValueError(
            f"no {n}",
        )
    warnings.warn(f"at {n}", stacklevel=2)
    logging.warning("at %d", n)
    return n


def over_lines():
    for i in range(3):
        value = (
            i
            + fail(
                i,
                [
                    fail(j)
                    for j in range(2)
                ],
            )
        )
    return value


def while_test(n=0):
    while fail(
        n
    ) < 5:
        n += 1


def in_iterable():
    for x in beside.items(
        fail(0), fail(1),
        fail(2),
    ):
        print(x)


def returned():
    for i in range(2):
        with open(__file__) as file:
            try:
                fail(i)
            finally:
                warnings.warn("finally")
    for i in range(4):
        return [fail(i),
                fail(i + 2)]


def unpack():
    for a, b in [(1, 2), (1, 2, 3)]:
        fail(0)


def not_iterable():
    for a in fail(0):
        fail(a)


def nested():
    for a in range(2):
        for b in range(2):
            try:
                fail(a + b)
            except ValueError as error:
                raise RuntimeError("outer") from error
        else:
            fail(0)


def recursive(n):
    for i in range(2):
        return recursive(n - 1) if n else fail(7)


for function in (over_lines, while_test, in_iterable, returned, unpack, not_iterable, nested, beside.deep):
    try:
        function()
    except Exception:
        traceback.print_exc(file=sys.stdout)
        stack = traceback.extract_tb(sys.exc_info()[2])
        print([(each.name, each.lineno, each.line) for each in stack])
warnings.warn("the last")
recursive(3)
""",
    # When things go is a program's business too: a model that stays fills a GPU.
    "lifetimes": """\
import sys, weakref, gc
import torch
gc.disable()

class Big:
    def __init__(self, name): self.name = name
    def __del__(self): print("gone", self.name)

def step():
    w = torch.ones(3, requires_grad=True)
    w.sum().backward()
    return w

def train():
    big = Big("in function")
    for i in range(2):
        step()
    del big
    print("after del")
    other = Big("local")
    other = None
    print("after None")

def load():
    for attempt in range(3):
        try:
            return Big(f"returned {attempt}")
        finally:
            str(attempt).strip(); step()

def load_training():
    for attempt in range(3):
        step()
        return Big("returned after training")

def items():
    for thing in [Big("item 1"), Big("item 2")]:
        step()
    print("loop over")
    thing = None
    print("thing is None")

def generator():
    try:
        for i in range(3):
            step()
            yield Big(f"yielded {i}")
    finally:
        print("generator closed")

def consume():
    for x in generator():
        step()
        break
    print("left the loop")
    x = None
    print("x is None")

def failing():
    big = Big("in a failing function")
    for i in range(3):
        step()
        raise ValueError("no")

train()
a = load(); a = None
print("a")
b = load_training(); del b
print("b")
items()
consume()
try:
    failing()
except ValueError:
    print("caught")
print("after")
c = Big("global")
for i in range(2):
    step()
del c
print("c is gone")
def refs():
    x = object()
    for i in range(2): step()
    print(sys.getrefcount(x))
refs()
def held():
    d = locals()
    y = 5
    for i in range(2): step()
    print(d)
    e = locals()
    z = 3
    print(sorted(e), e is d)
held()
""",
}
BESIDE = """\
class Base:
    def step(self):
        for i in range(3):
            self.last = str(i).strip()
        return True


def run(n):
    total = 0
    while n:
        total, n = total + n, n - len(str(n).strip())
    return total


def items(*values):
    for value in values:
        yield value


def deep():
    for i in range(3):
        for _ in items(
            1,
        ):
            print([1 // (2 - i) for _ in range(len(str(i).strip()))])
"""
