import random


def tick(k=1):
    return (random.randrange(50) + k) % 97


def f(n):
    for i in range(3):
        try:
            tick()
            if i == n:
                return tick() * 100
        finally:
            for j in range(2):
                tick()
                print("finally", i, j)
    else:
        print("none")
    return 5


for n in (1, 9):
    print(n)
    print(f(n))
    try:
        for k in range(2):
            with open("o.txt", "a") as file:
                for m in range(2):
                    print(tick(), file=file)
                    if m == k:
                        break
                else:
                    file = None
    finally:
        print("bye")
