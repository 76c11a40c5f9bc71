"""A frozen embedding that is kept quantized.

Refused: a tensor that is quantized can't be carried over
"""

import torch

torch.manual_seed(0)
table = torch.quantize_per_tensor(torch.randn(10, 4), 0.05, 0, torch.qint8)
head = torch.nn.Linear(4, 2)
opt = torch.optim.SGD(head.parameters(), lr=0.1)
for step in range(6):
    rows = table.dequantize()[torch.randint(10, (5,))]
    loss = head(rows).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
del table
