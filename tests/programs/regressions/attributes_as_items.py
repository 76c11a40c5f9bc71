"""Dicts whose attributes are their items, slots behind a __getattr__, and a class of sets."""


class Output(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Quiet(dict):
    def __getattr__(self, name):
        return self.get(name, "nothing")


class Lazy:
    __slots__ = ("config", "built")

    def __init__(self, config):
        self.config = config

    def __getattr__(self, name):
        try:
            return self.config[name]
        except KeyError:
            raise LookupError(name) from None


class Names(set):
    def __init__(self, names):
        super().__init__(names)
        self.asked = 0

    def has(self, name):
        self.asked += 1
        return name in self


def step(number, lazy):
    output = Output(loss=number * 0.5, parts=Quiet(a=number))
    output.more = output.loss + lazy.lr
    return output


lazy = Lazy({"lr": 0.1, "built": "not yet"})
names = Names(f"step{number}" for number in range(0, 30, 3))
last = Output(loss=None)
for number in range(6):
    last = step(number, lazy)
    if number == 3:
        lazy.built = lazy.built + " but now"
    print(number, last.more, last.parts.b, lazy.built, names.has(f"step{number}"), list(names))
