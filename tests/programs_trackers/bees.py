"""wandb in its offline mode."""

import torch
import wandb

torch.manual_seed(1)
run = wandb.init(project="small", config={"lr": 0.01})
model = torch.nn.Linear(600, 400)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for step in range(1, 61):
    loss = (model(torch.randn(96, 600)) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    run.log({"loss": loss.item(), "number": step})
    print(f"step {step} {loss.item():.6f}")
run.finish()
print("end", model.weight.sum().item())
