"""Text is gathered in a stream that is laid over another one in memory.

Refused: a stream that is laid over memory can't be carried over
"""

import io
import torch

torch.manual_seed(0)
memory = io.BytesIO()
text = io.TextIOWrapper(memory, write_through=True)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for step in range(8):
    loss = (w - torch.rand(4)).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    text.write(f"{step} {loss.item()}\n")
print(memory.getvalue().decode())
