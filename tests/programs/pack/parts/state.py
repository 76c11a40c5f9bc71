"""Module-level state that other modules change."""

import random

META = {"steps": 0, "order": []}
rng = random.Random(99)
total = 0.0


def bump(loss):
    global total
    META["steps"] += 1
    META["order"].append(rng.random())
    total += loss
    return total
