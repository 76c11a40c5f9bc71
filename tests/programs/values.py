"""Values of the standard library: heaps, iterators, buffers, counters, chained maps."""

import time
import torch
import collections
import heapq
import itertools
import contextlib
import io
import types
import array

torch.manual_seed(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
heap, cm = [], collections.ChainMap({}, {"a": 1})
arr = array.array("d", [0.0])
sio = io.StringIO()
bio = io.BytesIO()
ns = types.SimpleNamespace(n=0)
counter = itertools.count(5)
ids = iter("abcdefghijklmnopqrstuvwxyz" * 3)
inv = collections.Counter()
stack = contextlib.ExitStack()
gen = torch.Generator().manual_seed(3)
userdict = collections.UserDict()
ba = bytearray()
mv = None
acc = itertools.accumulate(itertools.count(1))
z = zip(itertools.cycle([1, 2, 3]), itertools.count())
for e in range(20):
    loss = ((w - torch.randn(4, generator=gen)) ** 2).sum() * next(counter) * 0.01
    opt.zero_grad()
    loss.backward()
    opt.step()
    heapq.heappush(heap, (loss.item(), e))
    cm["k%d" % (e % 3)] = e
    arr.append(loss.item())
    sio.write(f"{e},")
    bio.write(b"x")
    ns.n += next(acc)
    inv[next(ids)] += 1
    userdict[e] = str(next(z))
    ba.append(e)
    time.sleep(0.005)
    print(
        e,
        loss.item(),
        heap[0],
        dict(cm),
        len(arr),
        sio.getvalue()[-6:],
        bio.tell(),
        ns,
        len(ids.__reduce__()),
        userdict[e],
        len(ba),
        list(inv)[-1],
    )
print(arr.tolist(), inv, sio.getvalue(), bio.getvalue(), cm.maps, userdict.data)
