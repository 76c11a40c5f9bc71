"""Arrays that lie in files: a replay buffer that is written to, one that is copied on write, a data set that is read."""

import numpy as np
import torch
from sums import digest

torch.manual_seed(0)
np.arange(40, dtype="f4").reshape(10, 4).tofile("data.bin")
np.zeros(6, dtype="i8").tofile("counts.bin")
np.ones(6, dtype="i8").tofile("own.bin")
data = np.memmap("data.bin", dtype="f4", mode="r", shape=(10, 4))
half = data[5:]
buffer = np.memmap("buffer.bin", dtype="f4", mode="w+", shape=(6, 2))
losses = buffer[:, 1]
counts = np.memmap("counts.bin", dtype="i8", mode="r+", shape=(2, 3), order="F")
plain = np.asarray(counts)
own = np.memmap("own.bin", dtype="i8", mode="c")
saved = np.lib.format.open_memmap("saved.npy", mode="w+", dtype="f8", shape=(3,))
tensor = torch.from_numpy(counts)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=1e-4)
for step in range(9):
    x = torch.from_numpy(np.array(half[step % 5]))
    loss = net(x).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    buffer[step % 6, 0] = step
    losses[step % 6] = loss.item()
    plain[step % 2, step % 3] += step
    tensor[1, 2] += 1
    own[step % 6] += 1
    saved[step % 3] += loss.item()
    if step % 4 == 3:
        buffer.flush()
    print(
        step,
        loss.item(),
        buffer.sum(),
        counts.tolist(),
        own.tolist(),
        saved.tolist(),
        buffer.mode,
        type(losses).__name__,
    )
for each in (buffer, counts, saved):
    each.flush()
print(np.fromfile("buffer.bin", dtype="f4"), np.fromfile("counts.bin", dtype="i8"), np.load("saved.npy"))
print("final", digest(net, opt, torch.tensor(data)))
