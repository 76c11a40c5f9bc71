"""Files that are read line by line, opened one after the other under one name, closed, and made anew."""

import random


def tick(k=1):
    return random.randrange(9) + k


with open("lines.txt", "w", encoding="latin-1") as file:
    for number in range(5):
        print("z\u00e9ro", number, file=file)

total = 0
for line in open("lines.txt", encoding="latin-1"):
    total += tick()
    print(line.strip(), total)

for number in range(3):
    reading = open("lines.txt" if number % 2 else "program.py", encoding="latin-1")
    for part in range(2):
        tick()
        print(reading.readline().strip())

for number in range(2):
    writing = open(f"out{number}.bin", "wb", buffering=0)
    log = open("log.txt", "a", encoding="utf-16", buffering=1)
    for part in range(2):
        writing.write(bytes([tick()]))
        log.write(f"\u20ac {tick()}\n")
    print(writing.name, writing.mode, log.mode, log.encoding)
    log.close()
closed = log
print(closed.name, closed.mode)
