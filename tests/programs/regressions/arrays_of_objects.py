"""Arrays of tuples, lists, arrays and None: numpy looks into such values where it is given many at once."""

import numpy as np


def item(number):
    return (number, np.arange(3) + number, float(number))


ring = np.zeros(4, dtype=object)
ragged = np.empty((2, 2), dtype=object)
lists = np.empty(3, dtype=object)
lists[:] = [[1, 2], [3, 4], [5, 6]]
for number in range(6):
    ring[number % 4] = item(number)
    ragged[number % 2, 1] = np.ones(number)
    lists[number % 3].append(number)
    newest = sorted((each for each in ring if each), key=lambda each: each[0])[-1]
    print(number, newest, [None if each is None else len(each) for each in ragged.flat], lists.tolist())
