"""Values that a statement reads before it calls what changes them."""

import random

total = 0
items = [1, 2]
other = 0


class Box:
    def __init__(self):
        self.n = 0
        self.sum = 0

    def add(self, k):
        for _ in range(2):
            self.n += random.randrange(9)
            tick()
            print("add", self.n)
        return k

    def kept(self):
        for _ in range(2):
            tick()
        return self.n


def tick(k=1):
    return random.randrange(9) + k


def change(k):
    global total
    for _ in range(2):
        total += tick()
        items[0] += tick()
        print("change", total, items)
    return k


def leave(k):
    for _ in range(2):
        tick()
    return k


box = Box()
total += change(1)
items[0] += change(2)
print(total, items, change(3))
print(total * 2, change(3), f"{items} {total} {change(4)}")
print(items[0], str(items), change(3))
print(len(items) + change(4))
box.n += box.add(3)
box.sum += box.kept()
other += leave(2)
print(f"{other} {leave(3)}", other * 2 + leave(1))
print(box.n, other, total, items, total and leave(3), leave(1) if other else leave(2))
