"""What the program lets go of is gone at once, behind a dump too."""

import random
import weakref


def tick(k=1):
    return random.randrange(9) + k


class Thing:
    pass


def work(number):
    file, thing = open(f"b{number}", "wb", buffering=0), Thing()
    gone = weakref.ref(file), weakref.ref(thing)
    for part in range(2):
        file.write(bytes([tick()]))
    return gone


for number in range(2):
    file, thing = open(f"a{number}", "wb", buffering=0), Thing()
    gone = weakref.ref(file), weakref.ref(thing)
    for part in range(2):
        file.write(bytes([tick()]))
    del file, thing
    print([each() is None for each in gone])
    print([each() is None for each in work(number)])
