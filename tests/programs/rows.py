"""A database file that is looked into before rows are added to it, a second one in memory that is emptied again, rows of each epoch"""

import sqlite3

import torch
from sums import digest, seed_everything

seed_everything(6)
runs = sqlite3.connect("runs.db")
runs.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT UNIQUE, value REAL)")
runs.execute("CREATE TABLE IF NOT EXISTS losses (number INTEGER PRIMARY KEY AUTOINCREMENT, loss REAL)")
if runs.execute("SELECT count(*) FROM settings").fetchone()[0] == 0:
    runs.execute("INSERT INTO settings VALUES ('lr', 0.1)")
    runs.commit()
lr = runs.execute("SELECT value FROM settings WHERE name = 'lr'").fetchone()[0]
scratch = sqlite3.connect(":memory:")
scratch.execute("CREATE TABLE powers (value)")
scratch.executemany("INSERT INTO powers VALUES (?)", [(2**n,) for n in range(4)])
powers = [row[0] for row in scratch.execute("SELECT value FROM powers")]
scratch.execute("DROP TABLE powers")


def totals():
    reader = sqlite3.connect("runs.db")
    found = reader.execute("SELECT count(*), sum(loss) FROM losses").fetchone()
    reader.close()
    return found


w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], lr)
for step in range(8):
    loss = ((w - torch.randn(3)) ** 2).sum() * powers[step % 4] / 8
    opt.zero_grad()
    loss.backward()
    opt.step()
    runs.execute("INSERT INTO losses (loss) VALUES (?)", (loss.item(),))
    runs.commit()
    print(step, totals())
print(list(runs.execute("SELECT * FROM losses")))
runs.close()
print("digest", digest(w))
