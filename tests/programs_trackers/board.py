"""Scalars, a histogram and text by torch's SummaryWriter, which writes in a thread of its own."""

import torch
from torch.utils.tensorboard import SummaryWriter

torch.manual_seed(1)
writer = SummaryWriter("runs/one", flush_secs=1)
writer.add_text("what", "a line of text")
model = torch.nn.Linear(600, 400)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

step = 0
for epoch in range(4):
    for _ in range(15):
        loss = (model(torch.randn(96, 600)) - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        writer.add_scalar("loss/train", loss.item(), step)
        writer.add_scalars("both", {"a": step, "b": -step}, step)
        step += 1
        print(f"step {step} {loss.item():.6f}")
    writer.add_histogram("weight", model.weight, epoch)
writer.close()
print("end", model.weight.sum().item())
