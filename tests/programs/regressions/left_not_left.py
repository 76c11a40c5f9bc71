"""Conditions on the way to a safe point that read otherwise once the variables are restored."""

import random


def tick(k=1):
    return (random.randrange(50) + k) % 97


def work(n, seen):
    if n in seen:
        return -1
    seen.add(n)
    for i in range(2):
        tick()
        print("work", n, i, sorted(seen))
    return n


seen = set()
done = []
for i in range(2):
    n = 0
    while n < tick() % 3 + 1:
        n += 1
        tick()
    m = 0
    while True:
        m += 1
        if m > 2:
            break
        if m in done:
            done.remove(m)
            continue
        elif i == 7:
            print("never")
        else:
            done.append(m)
            for j in [i]:
                tick(tick(i))
        print(i, m, done)
    if not seen:
        work(i, seen)
    print(work(i + 5, seen))
