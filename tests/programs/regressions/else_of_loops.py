import random
import torch

random.seed(3)
torch.manual_seed(3)
w = torch.ones(3, requires_grad=True)


def train(k=1):
    (w * torch.randn(3) * k).pow(2).sum().backward()


for i in range(2):
    train(random.randrange(9))
else:
    for j in (v * 2 for v in [3, 4]):
        print(j)
        random.random()
    print("else")
print("end", random.random())
