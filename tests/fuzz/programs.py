"""Random programs: deterministic, quick to end, and full of what makes a resume hard.

``program(seed)`` gives the text. Programs are made of statements over a few typed variables; every name that
is read is bound on every path. How often a statement may run is bounded by a product of the loops around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fuzz.expressions import MOST_RUNS, Function, Scope
from fuzz.statements import Statements

PRELUDE = """\
import collections, copy, functools, itertools, os, random
import numpy as np
import torch
"""
SEEDS = """\
random.seed({0}); np.random.seed({0}); torch.manual_seed({0})
"""
MODEL = """\
model = torch.nn.Linear(3, 2)
opt = torch.optim.{0}
"""
TRAIN = """\
def train(k=1):
    loss = (model(torch.randn(2, 3)) * k).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    return int(loss.item() * 1000) % 100
"""
BY_HAND = """\
w = torch.ones(3, requires_grad=True)
def train(k=1):
    loss = (w * torch.randn(3) * k).pow(2).sum()
    loss.backward()
    with torch.no_grad():
        w.sub_(0.1 * w.grad)
    w.grad = None
    return int(loss.item() * 1000) % 100
"""
TICK = """\
def tick(k=1):
    return (random.randrange(50) + k) % 97
"""
OPTIMIZERS = ["SGD(model.parameters(), lr=0.1, momentum=0.9)", "Adam(model.parameters(), lr=0.01)"]


class Maker(Statements):
    """Makes one program."""

    # ---- statements -------------------------------------------------------------------------------

    def statements(self, number: int, depth: int) -> None:
        for _ in range(number):
            self.statement(depth)

    def statement(self, depth: int) -> None:
        simple = [
            self.assign, self.assign, self.augment, self.augment, self.show, self.show, self.change_list,
            self.change_dict, self.change_tensor, self.change_array, self.train_here, self.change_object,
            self.use_file, self.call_alone, self.make_container, self.alias, self.make_iterator,
        ]  # fmt: skip
        compound = [self.for_loop, self.for_loop, self.while_loop, self.branch, self.attempt]
        if self.scope.loops:
            simple += [self.leave]
        if depth > 0 and self.scope.runs * 2 <= MOST_RUNS and self.chance(0.35):
            self.draw.choice([*compound, self.closure])(depth - 1)
        else:
            self.draw.choice(simple)()

    def use_file(self) -> None:
        name = self.name("file")
        if name and self.chance(0.7):
            self.say(f"{name}.write(f'{{{self.integer(1)}}}\\n')" if self.chance(0.7) else f"{name}.flush()")
            return
        self.files += 1
        path = f"out{self.draw.randrange(3)}.txt"
        if self.chance(0.5):
            with self.block(f"with open({path!r}, {self.draw.choice('wa')!r}) as f{self.files}:"):
                self.scope.names[f"f{self.files}"] = "file"
                self.say(f"print({self.integer()}, file=f{self.files})")
                if self.chance(0.5):
                    self.statements(2, 1)
        elif self.scope.runs == 1:
            self.say(f"f{self.files} = open('own{self.files}.txt', 'w')")
            self.bind(f"f{self.files}", "file")

    # ---- compound statements ----------------------------------------------------------------------

    @contextmanager
    def looping(self, times: int, head: str) -> Iterator[None]:
        scope = self.scope
        scope.loops += 1
        scope.runs *= times
        with self.block(head):
            yield
        scope.runs //= times
        scope.loops -= 1

    def for_loop(self, depth: int) -> None:
        text, target = self.iterable()
        with self.looping(3, f"for {target} in {text}:"):
            for name in target.replace("(", "").replace(")", "").replace(",", " ").split():
                self.bind(name, "int" if "dl" not in text or name.startswith("i") else "batch")
            if self.chance(0.8):
                self.say(
                    self.draw.choice(["tick()", "train()", "print(tick())", *([self.call() or "tick()"] * 2)])
                )
            self.statements(self.draw.randrange(1, 4), depth)
        self.orelse(depth)

    def while_loop(self, depth: int) -> None:
        n = self.new("n")
        form = self.draw.randrange(5)
        self.say(f"{n} = 0")
        self.bind(n, "counter")
        limit = self.draw.randrange(1, 4)
        heads = [
            f"while {n} < {limit}:",
            f"while {n} < tick() % 3 + 1:",
            "while True:",
            f"while (w{n} := {self.integer(1)}) >= 0 and {n} < {limit}:",
            f"while {n} < {limit} and {self.condition()}:",
        ]
        with self.looping(3, heads[form]):
            self.say(f"{n} += 1")
            if form == 2:
                self.say(f"if {n} > {limit}: break")
            self.say(
                self.draw.choice(["tick()", "train()", f"print({n}, tick({n}))", self.call() or "tick()"])
            )
            self.statements(self.draw.randrange(1, 4), depth)
        self.orelse(depth)

    def orelse(self, depth: int) -> None:
        if self.chance(0.2):
            with self.block("else:"):
                self.statements(self.draw.randrange(1, 3), depth)

    def branch(self, depth: int) -> None:
        with self.block(f"if {self.condition()}:"):
            self.statements(self.draw.randrange(1, 3), depth)
        if self.chance(0.3):
            with self.block(f"elif {self.condition()}:"):
                self.statements(self.draw.randrange(1, 3), depth)
        if self.chance(0.5):
            with self.block("else:"):
                self.statements(self.draw.randrange(1, 3), depth)

    def attempt(self, depth: int) -> None:
        outer = self.scope.guarded
        handled = self.chance(0.8)
        with self.block("try:"):
            self.scope.guarded = outer or handled
            self.statements(self.draw.randrange(1, 4), depth)
            if self.scope.guarded and self.chance(0.4):
                self.say(f"if {self.condition()}: raise ValueError({self.integer(1)})")
        self.scope.guarded = outer
        if handled:
            with self.block("except ValueError as error:" if self.chance(0.6) else "except ValueError:"):
                self.statements(self.draw.randrange(1, 3), depth if self.chance(0.3) else 0)
            if self.chance(0.2):
                with self.block("else:"):
                    self.statements(1, depth)
        if not handled or self.chance(0.3):
            scope = self.scope
            could, scope.can_return = scope.can_return, False
            loops, scope.loops = scope.loops, 0
            with self.block("finally:"):
                self.statements(self.draw.randrange(1, 3), depth if self.chance(0.3) else 0)
            scope.loops = loops
            scope.can_return = could

    def closure(self, depth: int) -> None:
        """A function in the current scope that gives an int and may change what is around it."""
        name = self.new("c")
        scope = self.scope
        changed = [n for n, k in scope.names.items() if k in ("int", "list", "tensor") and self.chance(0.3)]
        self.in_function(f"def {name}(p=1):", {"p": "int"}, changed, depth=0, size=2)
        self.bind(name, "closure")

    def in_function(
        self,
        head: str,
        names: dict[str, str],
        changed: list[str],
        *,
        depth: int,
        size: int,
        generator: bool = False,
    ) -> int:
        """A function's definition; how many iterations a call takes at most."""
        outer = self.scope
        self.say(head)
        self.indent += 1
        self.scope = Scope(
            function=True,
            names=dict(names),
            outer={**outer.outer, **outer.names},
            declared=set(changed),
            generator=generator,
        )
        self.scope.outer = {k: v for k, v in self.scope.outer.items() if k not in names and v != "counter"}
        if changed:
            self.say(f"{'nonlocal' if outer.function else 'global'} {', '.join(changed)}")
        before, self.spent = self.spent, 1
        functions = list(self.functions)
        if outer.function or not generator:
            pass
        # A name that is assigned in a function without being declared is local: it can't be read before.
        self.statements(size, depth)
        if generator:
            self.yields(depth)
        elif self.chance(0.8):
            self.say(f"return {self.integer(1)}")
        else:
            self.say("return 1")
        self.functions = functions
        self.scope = outer
        self.indent -= 1
        cost, self.spent = self.spent, before
        return cost

    def yields(self, depth: int) -> None:
        v = self.new("v")
        with self.looping(3, f"for {v} in range({self.draw.randrange(2, 5)}):"):
            self.bind(v, "int")
            self.statements(1, 0)
            self.say(f"yield {self.integer(1)}")
            self.statements(1, 0)
        if self.chance(0.3):
            self.say(f"yield from {self.sequence()}")

    def define(self) -> None:
        """A function, a generator or a class at module level."""
        form = self.draw.randrange(8)
        changed = [
            n
            for n, k in self.scope.names.items()
            if k in ("int", "list", "dict", "tensor", "array", "object") and self.chance(0.3)
        ]
        if form == 0:
            name = self.new("gen")
            self.in_function(f"def {name}(p):", {"p": "int"}, changed, depth=0, size=1, generator=True)
            self.generators.append(name)
        elif form == 1:
            self.define_class()
        elif form == 2:
            name = self.new("rec")
            self.say(f"def {name}(p, left=2):")
            self.indent += 1
            self.say("if left <= 0: return p")
            self.say("total = 0")
            with self.block("for k in range(2):"):
                self.say("tick()")
                self.say(
                    f"total += {name}(p + k, left - 1)"
                    if self.chance(0.5)
                    else f"total = total + {name}(k, left - 1)"
                )
                self.say("print('rec', left, k, total)")
            self.say("return total % 97")
            self.indent -= 1
            self.functions.append(Function(f"{name}({{}})", 1, 6))
        else:
            name = self.new("f")
            count = self.draw.randrange(3)
            names = {f"p{i}": "int" for i in range(count)}
            head = ", ".join(f"p{i}" for i in range(count))
            if self.chance(0.2):
                names["acc"] = "list"
                head += (", " if head else "") + "acc=[1]"
            cost = self.in_function(
                f"def {name}({head}):", names, changed, depth=2, size=self.draw.randrange(2, 5)
            )
            self.functions.append(Function(f"{name}({{}})", count, cost))

    def define_class(self) -> None:
        name = self.new("C")
        methods: list[Function] = []
        self.say(f"class {name}:")
        self.indent += 1
        if self.chance(0.2):
            self.say("__slots__ = ('n', 'xs', 'other', 'q0', 'q1', 'q2')")
        self.say("shared = 1")
        self.say("def __init__(self, n):")
        self.say("    self.n, self.xs, self.other = n, [n], None")
        for _ in range(self.draw.randrange(1, 3)):
            method = self.new("m")
            cost = self.in_function(
                f"def {method}(self, p):",
                {"self": "object", "p": "int"},
                [],
                depth=1,
                size=self.draw.randrange(1, 4),
            )
            methods.append(Function(f"{method}({{}})", 1, cost))
        self.indent -= 1
        # All classes have other methods, so only the first one's are called by name.
        if not self.classes:
            self.classes.append((name, methods))

    # ---- the whole --------------------------------------------------------------------------------

    def program(self) -> str:
        self.say(PRELUDE.rstrip())
        self.say(SEEDS.format(self.draw.randrange(100)).rstrip())
        if self.chance(0.7):
            self.say(MODEL.format(self.draw.choice(OPTIMIZERS)).rstrip())
            self.say(TRAIN.rstrip())
        else:
            self.say(BY_HAND.rstrip())
        self.say(TICK.rstrip())
        self.functions += [Function("tick({})", 1, 1), Function("train({})", 1, 1)]
        for _ in range(self.draw.randrange(1, 6)):
            self.draw.choice(
                [self.make_container, self.assign, self.change_tensor, self.change_array, self.alias]
            )()
        for _ in range(self.draw.randrange(0, 4)):
            self.define()
            if self.chance(0.3):
                self.draw.choice([self.make_container, self.assign, self.make_iterator])()
        if self.chance(0.4):
            cost = self.in_function("def main():", {}, [], depth=3, size=self.draw.randrange(3, 8))
            del cost
            self.say("print(main())" if self.chance(0.5) else "result = main()")
        else:
            self.statements(self.draw.randrange(1, 5), 3)
            self.for_loop(2)
            self.statements(1, 1)
        return "\n".join(self.lines) + "\n"


def program(seed: int) -> str:
    """The text of a random program; compiles, and is the same for the same seed."""
    for attempt in range(50):
        text = Maker(seed * 50 + attempt).program()
        try:
            compile(text, "program.py", "exec")
        except SyntaxError:  # a name that is read before it is declared global, say
            continue
        return text
    raise AssertionError(f"no program comes from seed {seed}")
