"""Arrays that are views of one another, made in the loop."""

import random

import numpy as np


def tick():
    return random.randrange(9)


table = np.zeros((2, 3, 4)).transpose(1, 0, 2).copy(order="K")
for i in range(3):
    tick()
    base = np.arange(6.0) + i
    back, even = base[::-1], base[::2]
    words = np.array([i, "x", None, [i]], dtype=object)
    some = words[1:]
    for j in range(2):
        back[0] += tick()
        some[-1].append(j)
        print(base, even, words, some)
    table = table.copy(order="K")
    table[1] += i
    print(table.strides)
