"""SAC with a prioritized sum tree: three optimizers, a log alpha, targets by Polyak, `while not done`, a heap of best runs."""

import heapq
import itertools
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sums import digest, seed_everything
from torch.distributions.normal import Normal


class SumTree:
    write = 0

    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity - 1)
        self.data = np.zeros(capacity, dtype=object)
        self.n_entries = 0

    def _propagate(self, idx, change):
        parent = (idx - 1) // 2
        self.tree[parent] += change
        if parent != 0:
            self._propagate(parent, change)

    def _retrieve(self, idx, s):
        left = 2 * idx + 1
        if left >= len(self.tree):
            return idx
        return (
            self._retrieve(left, s) if s <= self.tree[left] else self._retrieve(left + 1, s - self.tree[left])
        )

    def total(self):
        return self.tree[0]

    def add(self, p, data):
        idx = self.write + self.capacity - 1
        self.data[self.write] = data
        self.update(idx, p)
        self.write += 1
        if self.write >= self.capacity:
            self.write = 0
        if self.n_entries < self.capacity:
            self.n_entries += 1

    def update(self, idx, p):
        change = p - self.tree[idx]
        self.tree[idx] = p
        self._propagate(idx, change)

    def get(self, s):
        idx = self._retrieve(0, s)
        return idx, self.tree[idx], self.data[idx - self.capacity + 1]


class Memory:
    e, a, beta, beta_increment = 0.01, 0.6, 0.4, 0.01

    def __init__(self, capacity):
        self.tree = SumTree(capacity)

    def add(self, error, sample):
        self.tree.add((np.abs(error) + self.e) ** self.a, sample)

    def sample(self, n):
        segment = self.tree.total() / n
        self.beta = np.min([1.0, self.beta + self.beta_increment])
        batch, idxs, priorities = [], [], []
        for i in range(n):
            s = np.random.uniform(segment * i, segment * (i + 1))
            idx, p, data = self.tree.get(s)
            batch.append(data), idxs.append(idx), priorities.append(p)
        weights = np.power(self.tree.n_entries * np.array(priorities) / self.tree.total(), -self.beta)
        return batch, idxs, torch.as_tensor(weights / weights.max(), dtype=torch.float32)


def mlp(sizes, activation=nn.ReLU, output=nn.Identity):
    layers = []
    for j in range(len(sizes) - 1):
        act = activation if j < len(sizes) - 2 else output
        layers += [nn.Linear(sizes[j], sizes[j + 1]), act()]
    return nn.Sequential(*layers)


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp([2, 16, 2])

    def forward(self, obs):
        mu, log_std = self.net(obs).chunk(2, dim=-1)
        pi = Normal(mu, torch.exp(torch.clamp(log_std, -5, 2)))
        a = pi.rsample()
        logp = (pi.log_prob(a) - 2 * (np.log(2) - a - F.softplus(-2 * a))).sum(-1)
        return torch.tanh(a), logp


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.pi, self.q1, self.q2 = Actor(), mlp([3, 16, 1]), mlp([3, 16, 1])


class Env:
    def __init__(self, rng):
        self.rng = rng

    def reset(self):
        self.s, self.t = self.rng.randn(2).astype(np.float32), 0
        return self.s

    def step(self, a):
        self.t += 1
        self.s = (0.9 * self.s + np.array([a, -a]) * 0.3 + 0.05 * self.rng.randn(2)).astype(np.float32)
        return self.s, -float((self.s**2).sum()), self.t >= 10 or abs(self.s[0]) > 3


seed_everything(2)
env = Env(np.random.RandomState(9))
ac = ActorCritic()
ac_targ = deepcopy(ac)
for p in ac_targ.parameters():
    p.requires_grad = False
q_params = itertools.chain(ac.q1.parameters(), ac.q2.parameters())
q_optimizer = torch.optim.Adam(q_params, lr=3e-3)
pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=3e-3)
log_alpha = torch.zeros(1, requires_grad=True)
alpha_optimizer = torch.optim.Adam([log_alpha], lr=1e-2)
memory = Memory(32)
best = []


def q(net, o, a):
    return net(torch.cat([o, a], dim=-1)).squeeze(-1)


def update(batch_size=8):
    batch, idxs, weights = memory.sample(batch_size)
    o, a, r, o2, d = (torch.as_tensor(np.array(each), dtype=torch.float32) for each in zip(*batch))
    alpha = log_alpha.exp().detach()
    with torch.no_grad():
        a2, logp2 = ac.pi(o2)
        backup = r + 0.95 * (1 - d) * (
            torch.min(q(ac_targ.q1, o2, a2), q(ac_targ.q2, o2, a2)) - alpha * logp2
        )
    q1, q2 = q(ac.q1, o, a), q(ac.q2, o, a)
    loss_q = (weights * ((q1 - backup) ** 2 + (q2 - backup) ** 2)).mean()
    q_optimizer.zero_grad()
    loss_q.backward()
    q_optimizer.step()
    for idx, error in zip(idxs, (q1 - backup).abs().tolist()):
        memory.tree.update(idx, (error + memory.e) ** memory.a)
    for p in (qp := list(ac.q1.parameters()) + list(ac.q2.parameters())):
        p.requires_grad = False
    pi_optimizer.zero_grad()
    a, logp = ac.pi(o)
    loss_pi = (alpha * logp - torch.min(q(ac.q1, o, a), q(ac.q2, o, a))).mean()
    loss_pi.backward()
    pi_optimizer.step()
    for p in qp:
        p.requires_grad = True
    alpha_loss = -(log_alpha * (logp + -1.0).detach()).mean()
    alpha_optimizer.zero_grad()
    alpha_loss.backward()
    alpha_optimizer.step()
    with torch.no_grad():
        for p, p_targ in zip(ac.parameters(), ac_targ.parameters()):
            p_targ.data.mul_(0.95)
            p_targ.data.add_(0.05 * p.data)
    return loss_q.item(), loss_pi.item()


total = 0
for episode in range(7):
    o, done, score = env.reset(), False, 0.0
    while not done:
        if total > 12:
            with torch.no_grad():
                a = ac.pi(torch.as_tensor(o))[0].numpy()
        else:
            a = np.random.uniform(-1, 1, size=1).astype(np.float32)
        o2, r, done = env.step(float(a[0]))
        score += r
        memory.add(abs(r), (o, a, r, o2, float(done)))
        o = o2
        total += 1
        if total > 16:
            losses = update()
    heapq.heappush(best, (-score, episode))
    if len(best) > 3:
        heapq.heappop(best)
    print(
        f"episode {episode} score {score:.5f} total {total} alpha {log_alpha.exp().item():.5f} beta {memory.beta:.3f}"
    )
print(sorted(best), "%.6f %.6f" % losses)
print(
    "final",
    digest(
        ac,
        ac_targ,
        q_optimizer,
        pi_optimizer,
        alpha_optimizer,
        log_alpha,
        memory.tree.tree,
        env.rng.get_state(),
    ),
)
