"""A graph convolution with a sparse adjacency matrix.

Refused: a tensor that is sparse_coo can't be carried over
"""

import torch

torch.manual_seed(0)
index = torch.randint(12, (2, 40))
adjacency = torch.sparse_coo_tensor(index, torch.ones(40), (12, 12)).coalesce()
x, y = torch.randn(12, 5), torch.randint(3, (12,))
w1, w2 = torch.nn.Linear(5, 8), torch.nn.Linear(8, 3)
opt = torch.optim.Adam([*w1.parameters(), *w2.parameters()], lr=0.01)
for epoch in range(6):
    h = torch.relu(torch.sparse.mm(adjacency, w1(x)))
    loss = torch.nn.functional.cross_entropy(torch.sparse.mm(adjacency, w2(h)), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(epoch, loss.item())
del adjacency
