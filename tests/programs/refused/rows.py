"""Settings are written into a database file before the loop, without a look whether they are there (the resume is refused).

Refused: on its way to the checkpoint, and what it has written there before would be there twice
"""

import sqlite3

import torch

torch.manual_seed(0)
w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], 0.1)
runs = sqlite3.connect("runs.db")
runs.execute("CREATE TABLE IF NOT EXISTS settings (name, value)")
runs.execute("INSERT INTO settings VALUES ('lr', 0.1)")
runs.commit()
for step in range(8):
    loss = ((w - torch.randn(3)) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(runs.execute("SELECT * FROM settings").fetchall())
