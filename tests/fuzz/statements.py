"""Simple statements of random programs."""

from __future__ import annotations

from fuzz.expressions import Expressions


class Statements(Expressions):
    """Statements that hold no others."""

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
            data = "torch.utils.data.TensorDataset(torch.arange(4))"
            text = f"torch.utils.data.DataLoader({data}, batch_size=2, shuffle={self.chance(0.7)})"
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
