"""Random programs: deterministic, quick to end, and full of what makes a resume hard.

``program(seed)`` gives the text. Programs are made of statements over a few typed variables; every name that
is read is bound on every path. How often a statement may run is bounded by a product of the loops around it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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
MOST_RUNS = 24
"""How often a statement may run at most within one call of its function."""


@dataclass
class Function:
    """Something that can be called and gives an int."""

    call: str
    """With {} for the arguments."""
    arguments: int
    cost: int
    """Loop iterations that a call may take."""


@dataclass
class Scope:
    """Where statements are being made."""

    function: bool = False
    names: dict[str, str] = field(default_factory=dict)
    """Bound names to their types."""
    outer: dict[str, str] = field(default_factory=dict)
    """Names of the enclosing scope that can be read."""
    declared: set[str] = field(default_factory=set)
    """Outer names that may be assigned."""
    loops: int = 0
    runs: int = 1
    generator: bool = False
    can_return: bool = True
    guarded: bool = False
    """A try around catches ValueError."""


class Maker:
    """Makes one program."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.lines: list[str] = []
        self.indent = 0
        self.number = 0
        self.functions: list[Function] = []
        self.generators: list[str] = []
        self.classes: list[tuple[str, list[Function]]] = []
        self.scope = Scope()
        self.spent = 0
        self.files = 0

    # ---- text -------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """An indented block; names that are bound in it may be unbound behind it."""
        self.say(head)
        self.indent += 1
        before = dict(self.scope.names)
        start = len(self.lines)
        yield
        if len(self.lines) == start:
            self.say("pass")
        self.indent -= 1
        self.scope.names = before

    def new(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def chance(self, probability: float) -> bool:
        return self.draw.random() < probability

    def one_of(self, *choices: Callable[[], str]) -> str:
        return self.draw.choice(choices)()

    # ---- names ------------------------------------------------------------------------------------

    def readable(self, kind: str) -> list[str]:
        scope = self.scope
        return [n for n, k in {**scope.outer, **scope.names}.items() if k == kind]

    def assignable(self, kind: str) -> list[str]:
        scope = self.scope
        own = [n for n, k in scope.names.items() if k == kind]
        return own + [n for n in scope.declared if scope.outer.get(n) == kind]

    def name(self, kind: str) -> str | None:
        names = self.readable(kind)
        return self.draw.choice(names) if names else None

    def target(self, kind: str, prefix: str) -> str:
        """A name to assign to: one that is there, or a new one."""
        names = self.assignable(kind)
        if names and self.chance(0.5):
            return self.draw.choice(names)
        name = self.new(prefix)
        return name

    def bind(self, name: str, kind: str) -> None:
        if name not in self.scope.declared:
            self.scope.names[name] = kind

    # ---- expressions ------------------------------------------------------------------------------

    def integer(self, depth: int = 2) -> str:
        """An expression that gives a small int."""
        draw = self.draw
        simple = [str(draw.randrange(10)), *self.readable("int"), *self.readable("int")]
        if depth <= 0 or self.chance(0.3):
            return draw.choice(simple)
        options: list[Callable[[], str]] = [
            lambda: f"({self.integer(depth - 1)} {draw.choice('+-*')} {self.integer(depth - 1)}) % 97",
            lambda: self.random_draw(),
            lambda: (
                f"({self.integer(depth - 1)} if {self.condition(depth - 1)} else {self.integer(depth - 1)})"
            ),
            lambda: f"max({self.integer(depth - 1)}, {self.integer(depth - 1)})",
        ]
        for kind, text in (
            ("list", "len({})"),
            ("list", "sum({}) % 97"),
            ("list", "({} or [3])[-1]"),
            ("dict", "{}.get(1, 5)"),
            ("dict", "len({})"),
            ("tensor", "int({}.detach().sum().item() * 100) % 97"),
            ("array", "int({}.sum() * 100) % 97"),
            ("iterator", "next({}, 7)"),
            ("object", "{}.n"),
            ("object", "len({}.xs)"),
            ("deque", "({} or [4])[0]"),
        ):
            name = self.name(kind)
            if name:
                options.append(lambda name=name, text=text: text.format(name))  # type: ignore[misc]
        call = self.call(depth - 1)
        if call:
            options += [lambda: call] * 4  # type: ignore[list-item, return-value]
        return draw.choice(options)()

    def condition(self, depth: int = 1) -> str:
        draw = self.draw
        text = f"{self.integer(depth)} {draw.choice(['<', '>', '==', '!=', '<='])} {self.integer(depth)}"
        if self.chance(0.3):
            text += f" {draw.choice(['and', 'or'])} {self.integer(depth)} % {draw.randrange(2, 4)}"
        return text

    def random_draw(self) -> str:
        options = [
            "random.randrange(20)",
            "int(np.random.randint(20))",
            "int(torch.randint(20, (1,)))",
            "int(random.gauss(0, 9)) % 20",
            "int(torch.randn(1).item() * 50) % 50",
            "int(np.random.normal() * 50) % 50",
        ]
        for kind, text in (
            ("rng", "{}.randrange(20)"),
            ("nrng", "int({}.integers(20))"),
            ("trng", "int(torch.randint(20, (1,), generator={}))"),
        ):
            name = self.name(kind)
            if name:
                options += [text.format(name)] * 2
        return self.draw.choice(options)

    def call(self, depth: int = 1) -> str | None:
        """A call of a function of the program's, if one is cheap enough here."""
        room = MOST_RUNS // self.scope.runs
        found = [each for each in self.functions if each.cost <= room]
        for name in self.readable("closure"):
            found.append(Function(f"{name}({{}})", 1, 1))
        for cls, methods in self.classes:
            for name in self.readable("object"):
                if self.scope.names.get(name) == "object" or name in self.scope.outer:
                    found += [
                        Function(f"{name}.{m.call}", m.arguments, m.cost) for m in methods if m.cost <= room
                    ]
            del cls
        if not found:
            return None
        function = self.draw.choice(found[-6:] if self.chance(0.5) else found)
        self.spent += function.cost * self.scope.runs
        arguments = ", ".join(self.integer(depth) for _ in range(function.arguments))
        if self.chance(0.1) and function.arguments == 1:
            arguments = f"*[{arguments}]"
        return function.call.format(arguments)

    def sequence(self) -> str:
        """An expression that gives a list of a few ints."""
        options = [
            lambda: f"[{', '.join(self.integer(1) for _ in range(self.draw.randrange(1, 4)))}]",
            lambda: f"list(range({self.draw.randrange(1, 4)}))",
            lambda: (
                f"[{self.one_of(lambda: 'i', lambda: self.integer(1))} for i in range({self.draw.randrange(1, 4)})]"
            ),
            lambda: f"random.sample(range(9), {self.draw.randrange(1, 4)})",
            lambda: f"np.random.permutation({self.draw.randrange(1, 4)}).tolist()",
            lambda: f"torch.randperm({self.draw.randrange(1, 4)}).tolist()",
        ]
        name = self.name("list")
        if name:
            options += [lambda: f"{name}[:3]", lambda: f"sorted({name})[:3]", lambda: f"{name}[-2:]"]
        return self.draw.choice(options)()

    def iterable(self) -> tuple[str, str]:
        """What a for loop runs over (at most four ints or pairs), and its target."""
        draw = self.draw
        i, j = self.new("i"), self.new("j")
        options: list[tuple[str, str]] = [
            (f"range({draw.randrange(1, 5)})", i),
            (f"range({draw.randrange(1, 5)})", i),
            (f"range({draw.randrange(1, 4)}, 0, -1)", i),
            (self.sequence(), i),
            (f"enumerate({self.sequence()})", f"{i}, {j}"),
            (f"zip({self.sequence()}, {self.sequence()})", f"({i}, {j})"),
            (f"zip(range(3), itertools.cycle({self.sequence()}))", f"{i}, {j}"),
            (f"reversed({self.sequence()})", i),
            (f"map(lambda v: v + 1, {self.sequence()})", i),
            (f"(v * 2 for v in {self.sequence()})", i),
            (f"itertools.islice(itertools.count({draw.randrange(9)}), {draw.randrange(1, 4)})", i),
            (f"itertools.chain({self.sequence()}, [1])", i),
            (f"dict.fromkeys({self.sequence()}, {draw.randrange(9)}).items()", f"{i}, {j}"),
            (f"set({self.sequence()})", i),
            (f"itertools.product(range(2), {self.sequence()})", f"{i}, {j}"),
            (f"torch.randperm({draw.randrange(1, 4)}).tolist()", i),
        ]
        for kind, text in (
            ("list", "list({0})[:3]"),
            ("list", "enumerate({0}[:3])"),
            ("dict", "list({0})[:3]"),
            ("dict", "list({0}.items())[:3]"),
            ("iterator", "itertools.islice({0}, 3)"),
            ("iterator", "zip(range(3), {0})"),
            ("loader", "{0}"),
            ("loader", "enumerate({0})"),
        ):
            name = self.name(kind)
            if name:
                pair = "enumerate" in text or "zip" in text or "items" in text
                if kind == "loader":
                    target = f"{i}, ({j},)" if "enumerate" in text else f"({j},)"
                else:
                    target = f"{i}, {j}" if pair else i
                options += [(text.format(name), target)] * 2
        for generator in self.generators:
            options.append((f"{generator}({self.integer(1)})", i))
        return draw.choice(options)

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
            self.draw.choice([*compound, *([self.closure] if self.scope.function or True else [])])(depth - 1)
        else:
            self.draw.choice(simple)()

    def assign(self) -> None:
        if self.chance(0.15):
            a, b = self.target("int", "a"), self.target("int", "b")
            self.say(f"{a}, {b} = {self.integer()}, {self.integer()}")
            self.bind(b, "int")
            self.bind(a, "int")
            return
        value = self.integer()
        name = self.target("int", "a")
        self.say(f"{name} = {value}")
        self.bind(name, "int")

    def augment(self) -> None:
        names = self.assignable("int")
        value = self.call() or self.integer()
        if names and self.chance(0.6):
            self.say(f"{self.draw.choice(names)} {self.draw.choice(['+=', '-=', '^='])} {value}")
            return
        options = []
        if self.name("object"):
            options.append(f"{self.name('object')}.n += {value}")
        if self.name("dict"):
            d = self.name("dict")
            options.append(f"{d}[{self.integer(0)}] = {d}.get(1, 0) + {value}")
        if self.name("list"):
            options.append(
                f"{self.name('list')}[-1:] += [{value}]"
                if self.chance(0.3)
                else f"{self.name('list')}.append({value})"
            )
        if self.name("tensor"):
            options.append(f"{self.name('tensor')}[0] += {value}")
        if self.name("array"):
            options.append(f"{self.name('array')}[-1] += {value}")
        if options:
            self.say(self.draw.choice(options))

    def show(self) -> None:
        parts = [self.integer() for _ in range(self.draw.randrange(1, 4))]
        form = self.draw.randrange(3)
        if form == 0:
            self.say(f"print({', '.join(parts)})")
        elif form == 1:
            inner = " ".join(
                "{" + part + "}" for part in parts if "'" not in part and '"' not in part and "\\" not in part
            )
            self.say(f"print(f'{inner}')")
        else:
            kind = self.draw.choice(["list", "dict", "tensor", "array", "deque"])
            name = self.name(kind)
            self.say(f"print({parts[0]}, {name}, end='\\n')")

    def change_list(self) -> None:
        name = self.name("list")
        if not name:
            return
        self.say(
            self.draw.choice(
                [
                    f"{name}.append({self.integer()})",
                    f"{name}.extend({self.sequence()})",
                    f"{name}[:] = {self.sequence()}",
                    f"if {name}: {name}.pop()",
                    f"{name}.reverse()",
                    f"random.shuffle({name})",
                    f"del {name}[2:]",
                    f"{name}.insert(0, {self.integer()})",
                ]
            )
        )

    def change_dict(self) -> None:
        name = self.name("dict")
        if not name:
            return
        self.say(
            self.draw.choice(
                [
                    f"{name}[{self.integer(1)}] = {self.integer()}",
                    f"{name}.pop(next(iter({name}), None), None)",
                    f"{name}.update(zip({self.sequence()}, {self.sequence()}))",
                    f"{name}.setdefault({self.integer(1)}, {self.integer()})",
                ]
            )
        )

    def change_tensor(self) -> None:
        name = self.name("tensor")
        if not name or self.chance(0.3):
            new = self.target("tensor", "t")
            options = ["torch.randn(3)", "torch.ones(3)"]
            trng = self.name("trng")
            if trng:
                options.append(f"torch.rand(3, generator={trng})")
            if name:
                options += [
                    f"{name} * 0.5",
                    f"{name}.clone()",
                    f"{name}.view(3)",
                    f"{name}",
                    f"{name}.flip(0)",
                    f"{name}.detach()",
                ]
            self.say(f"{new} = {self.draw.choice(options)}")
            self.bind(new, "tensor")
            return
        other = self.name("tensor")
        self.say(
            self.draw.choice(
                [
                    f"{name}.add_({self.integer(1)} / 8)",
                    f"{name}.mul_(0.5)",
                    f"{name}.copy_({other})",
                    f"{name}[1:].add_(1)",
                    f"{name} [:] = torch.randn(3)",
                ]
            )
        )

    def change_array(self) -> None:
        name = self.name("array")
        if not name or self.chance(0.3):
            new = self.target("array", "m")
            options = ["np.zeros(3)", "np.random.rand(3)"]
            if name:
                options += [f"{name} * 0.5", f"{name}.copy()", f"{name}[:]", f"{name}", f"{name}[::-1]"]
            self.say(f"{new} = {self.draw.choice(options)}")
            self.bind(new, "array")
            return
        self.say(
            self.draw.choice(
                [
                    f"{name} += {self.integer(1)}",
                    f"{name}[:] = np.random.rand(3)",
                    f"np.random.shuffle({name})",
                    f"{name}[1:] *= 0.5",
                ]
            )
            if name in self.assignable("array")
            else f"{name}[:] = {name} * 0.5 + {self.integer(1)}"
        )

    def train_here(self) -> None:
        self.spent += self.scope.runs
        form = self.draw.randrange(5)
        names = self.assignable("int")
        if form == 0 and names:
            self.say(f"{self.draw.choice(names)} += train({self.integer(0)})")
        elif form == 1 and self.name("list"):
            self.say(f"{self.name('list')}.append(train())")
        elif form == 2:
            self.say(f"print('train', train({self.integer(1)}))")
        else:
            self.say(f"train({self.integer(0)})")

    def change_object(self) -> None:
        name = self.name("object")
        if not name:
            return
        self.say(
            self.draw.choice(
                [
                    f"{name}.n = {self.integer()}",
                    f"{name}.xs.append({self.integer()})",
                    f"{name}.other = {self.name('object')}",
                    f"{name}.xs = {self.name('list') or []}",
                    f"type({name}).shared += {self.integer(1)}",
                    f"setattr({name}, 'q{self.draw.randrange(3)}', {self.integer()})",
                ]
            )
        )

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

    def call_alone(self) -> None:
        call = self.call()
        if call:
            self.say(call)

    def make_container(self) -> None:
        form = self.draw.randrange(9)
        if form == 0:
            name, kind, text = self.target("list", "l"), "list", self.sequence()
        elif form == 1:
            name, kind = self.target("dict", "d"), "dict"
            text = self.draw.choice(
                [
                    f"dict.fromkeys({self.sequence()}, 1)",
                    "{1: 2}",
                    "collections.Counter()",
                    "collections.defaultdict(int)",
                ]
            )
        elif form == 2:
            name, kind, text = (
                self.target("deque", "q"),
                "deque",
                f"collections.deque({self.sequence()}, maxlen=3)",
            )
        elif form == 3:
            name, kind, text = self.target("rng", "r"), "rng", f"random.Random({self.integer(0)})"
        elif form == 4:
            name, kind, text = self.target("nrng", "nr"), "nrng", f"np.random.default_rng({self.integer(0)})"
        elif form == 5:
            name, kind, text = (
                self.target("trng", "g"),
                "trng",
                f"torch.Generator().manual_seed({self.integer(0)})",
            )
        elif form == 6 and self.classes:
            name, kind, text = (
                self.target("object", "o"),
                "object",
                f"{self.draw.choice(self.classes)[0]}({self.integer(0)})",
            )
        elif form == 7:
            name, kind = self.target("loader", "dl"), "loader"
            text = f"torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.arange(4)), batch_size=2, shuffle={self.chance(0.7)})"
        else:
            name, kind, text = (
                self.target("nested", "z"),
                "nested",
                f"[{self.name('list')}, ({self.name('dict')}, {self.name('tensor')}), {self.name('object')}]",
            )
        self.say(f"{name} = {text}")
        self.bind(name, kind)

    def alias(self) -> None:
        kind, prefix = self.draw.choice(
            [("list", "l"), ("dict", "d"), ("object", "o"), ("tensor", "t"), ("iterator", "it"), ("rng", "r")]
        )
        name = self.name(kind)
        if name:
            target = self.target(kind, prefix)
            self.say(
                f"{target} = {name if self.chance(0.7) or kind in ('iterator', 'rng') else f'copy.deepcopy({name})'}"
                if kind != "tensor"
                else f"{target} = {name}"
            )
            self.bind(target, kind)

    def make_iterator(self) -> None:
        options = [
            f"iter({self.sequence()})",
            f"itertools.cycle({self.sequence()})",
            f"itertools.count({self.integer(0)})",
            f"iter(range({self.draw.randrange(2, 9)}))",
            f"map(abs, {self.sequence()})",
            f"reversed({self.sequence()})",
            f"itertools.chain({self.sequence()}, [1, 2])",
            f"itertools.accumulate({self.sequence()})",
        ]
        for generator in self.generators:
            options += [f"{generator}({self.integer(1)})"] * 2
        if self.name("list"):
            options.append(f"iter({self.name('list')})")
        name = self.target("iterator", "it")
        text = self.draw.choice(options)
        self.say(f"{name} = {text}")
        self.bind(name, "iterator")

    def leave(self) -> None:
        scope = self.scope
        choices = ["break", "continue"]
        if scope.function and scope.can_return and not scope.generator:
            choices += [f"return {self.integer(1)}"] * 2
        if scope.guarded:
            choices += ["raise ValueError(3)", f"raise ValueError({self.integer(1)})"]
        self.say(f"if {self.condition()}: {self.draw.choice(choices)}")

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
