"""What random programs are made of in the small: names, types, expressions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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


class Expressions:
    """Text so far, and what may be read where."""

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
        return self.new(prefix)

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
            options += [lambda: call] * 4
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
        found += [Function(f"{name}({{}})", 1, 1) for name in self.readable("closure")]
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
