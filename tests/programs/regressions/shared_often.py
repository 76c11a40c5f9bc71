"""Many objects of one kind that refer to each other: numbers without a node lie between those of the others."""


class Each:
    def __init__(self, value, others):
        self.value = value
        self.others = others


def last(all_of_them):
    return all_of_them[-1]


def pairs(values):
    for value in values:
        yield value, value + 1


every = [Each(0, ())]
ahead = pairs(range(9))
for number in range(80):
    every.append(Each(number, (last(every), every[number // 2])))
for step in range(3):
    first, second = next(ahead)
    every[first].value += second
    print(step, last(every).value, sum(each.value for each in every))
