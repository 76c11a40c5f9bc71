"""A simulator in a process of its own, spoken to through pipes.

Refused: is running, and what it does can't be carried over
"""

import subprocess
import sys
import torch

CODE = (
    "import sys\nx = 1.0\nfor line in sys.stdin:\n    x = 0.5 * x + float(line)\n    print(x, flush=True)\n"
)
torch.manual_seed(0)
simulator = subprocess.Popen(
    [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)


def ask(action):
    simulator.stdin.write(f"{action}\n")
    simulator.stdin.flush()
    return float(simulator.stdout.readline())


w = torch.zeros(1, requires_grad=True)
for step in range(6):
    loss = (w - ask(w.item())).pow(2).sum()
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
        w.grad = None
    print(step, loss.item())
simulator.stdin.close()
simulator.wait()
simulator.stdout.close()
del simulator
