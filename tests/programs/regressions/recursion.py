import random


def tick(k=1):
    return random.randrange(9)


def rec7(p, left=2):
    if left <= 0:
        return p
    total = 0
    for k in range(2):
        tick()
        total += rec7(p + k, left - 1)
        print(left, k, total)
    return total % 97


a8 = rec7(3)
