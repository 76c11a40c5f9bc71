"""Weights written by torch.save, torch.jit, torch.package and safetensors before the loop and whenever they are better"""

import io

import numpy as np
import safetensors.numpy
import torch
from safetensors.torch import load_file, save_file, save_model
from sums import digest, seed_everything
from torch import nn
from torch.serialization import save

seed_everything(4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.outer = nn.Linear(4, 1)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


@torch.jit.script
def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def keep(net, score):
    scripted = torch.jit.script(net)
    torch.jit.save(scripted, "whole.pt")
    scripted.save("best.pt")
    double.save("double.pt")
    torch.save({"score": score, **net.state_dict()}, "plain.pt")
    save(net.state_dict(), "same.pt")
    save_file(net.state_dict(), "best.safetensors")
    save_model(net, "model.safetensors")
    safetensors.numpy.save_file({"bias": net.outer.bias.detach().numpy()}, "bias.safetensors")
    np.savetxt("best.txt", net.outer.bias.detach().numpy())
    net.outer.weight.detach().numpy().tofile("best.bin")
    with torch.package.PackageExporter("best.package") as package:
        package.save_pickle("score", "score.pkl", score)


def kept():
    names = "whole.pt", "best.pt"
    parts = [torch.jit.load(name).outer.bias.item() for name in names]
    parts += [torch.load(name)["outer.bias"].item() for name in ("plain.pt", "same.pt")]
    parts += [load_file(name)["outer.bias"].item() for name in ("best.safetensors", "model.safetensors")]
    parts += [float(np.loadtxt("best.txt")), float(np.fromfile("best.bin", dtype="f4").sum())]
    parts.append(safetensors.numpy.load_file("bias.safetensors")["bias"].item())
    return parts, torch.package.PackageImporter("best.package").load_pickle("score", "score.pkl")


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(40, 3)
y = x.prod(1, keepdim=True)
best = 1e9
keep(net, best)
buffer = io.BytesIO()
torch.save(net.state_dict(), buffer)
buffer.seek(0)
first = torch.load(buffer)
del buffer
for epoch in range(8):
    for i in torch.randperm(40).split(20):
        loss = (net(x[i]) - y[i]).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    score = loss.item()
    if score < best:
        best = score
        keep(net, best)
    parts, at = kept()
    print(f"{epoch} {score:.6f} {at:.6f}", parts)
away = sum((first[name] - value).norm().item() for name, value in net.state_dict().items())
print(f"{away:.6f}", "digest", digest(net, opt))
