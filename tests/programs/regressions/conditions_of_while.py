import random


def tick(k=1):
    return (random.randrange(50) + k) % 97


def rec(n):
    for k in range(2):
        n += tick()
        print("rec", k, n)
    return n


n = 0
while rec(n) and n < 3:
    n += 1
    print(n, tick())
while (x := rec(n)) > 0 and n < 6:
    n += 1
    print(n, x, tick())
