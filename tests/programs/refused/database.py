"""A database that lies in memory only.

Refused: a sqlite3 database in memory can't be carried over: keep it in a file
"""

import sqlite3

import torch

torch.manual_seed(0)
w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], 0.1)
log = sqlite3.connect(":memory:")
log.execute("CREATE TABLE losses (step, loss)")
for step in range(8):
    loss = ((w - torch.randn(3)) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    log.execute("INSERT INTO losses VALUES (?, ?)", (step, loss.item()))
print(log.execute("SELECT * FROM losses").fetchall())
