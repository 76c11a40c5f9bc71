"""A list that holds many objects twice: numbers without a node lie between those of the others."""


class Each:
    def __init__(self, value):
        self.value = value


def last(all_of_them):
    return all_of_them[-1]


def pairs(values):
    for value in values:
        yield value, value + 1


every = [each for value in range(60) for each in [Each(value)] * 2]
ahead = pairs(range(9))
for step in range(3):
    first, second = next(ahead)
    every[first].value += second
    print(step, last(every).value, sum(each.value for each in every))
