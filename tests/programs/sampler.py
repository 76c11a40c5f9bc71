"""A sampler of the program's own that draws from the global generator as it goes, between dropout's draws."""

import time

import torch


class Lazy(torch.utils.data.Sampler):
    def __init__(self, size, count):
        self.size, self.count = size, count

    def __len__(self):
        return self.count

    def __iter__(self):
        for _ in range(self.count):
            yield int(torch.randint(self.size, ()))


torch.manual_seed(0)
data = torch.utils.data.TensorDataset(torch.randn(64, 4))
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step, (x,) in enumerate(torch.utils.data.DataLoader(data, batch_size=4, sampler=Lazy(64, 60))):
    loss = net(x).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    time.sleep(0.002)
    print(f"step {step} loss {loss.item():.9f}", flush=True)
for step, (x,) in enumerate(torch.utils.data.DataLoader(data, 4, sampler=Lazy(64, 40), num_workers=2)):
    print(step, net(x).sum().item())
print("digest", sum(p.sum().item() for p in net.parameters()), torch.rand(1).item())
