import random


def tick(k=1):
    return (random.randrange(50) + k) % 97


for i4 in range(2):
    n8 = 0
    while n8 < tick() % 3 + 1:
        n8 += 1
        tick()
    n11 = 0
    while True:
        n11 += 1
        if n11 > 2:
            break
        for i12 in [i for i in range(1)]:
            tick(tick(i4))
