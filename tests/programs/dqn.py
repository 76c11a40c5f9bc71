"""DQN: an environment with its own numpy generator, a deque of named tuples, epsilon-greedy, a target network."""

import copy
import math
import random
import time
from collections import deque, namedtuple
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sums import digest, seed_everything

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))
seed_everything(1)


class Chain:
    """A noisy line: walk right to be paid."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.x = 0.0
        self.t = 0

    def reset(self):
        self.x, self.t = float(self.rng.normal()), 0
        return np.array([self.x, 0.0], dtype=np.float32)

    def step(self, action):
        self.t += 1
        self.x += (1 if action == 1 else -1) * 0.5 + self.rng.normal() * 0.1
        done = abs(self.x) > 3 or self.t >= 12
        return np.array([self.x, self.t / 12], dtype=np.float32), self.x / 3, done


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(2, 16)
        self.layer2 = nn.Linear(16, 2)

    def forward(self, x):
        return self.layer2(F.relu(self.layer1(x)))


policy_net = DQN()
target_net = copy.deepcopy(policy_net)
optimizer = optim.AdamW(policy_net.parameters(), lr=1e-2, amsgrad=True)
memory = ReplayMemory(60)
env = Chain(3)
steps_done = 0
episode_durations = []


def select_action(state):
    global steps_done
    sample = random.random()
    eps = 0.05 + 0.85 * math.exp(-1.0 * steps_done / 50)
    steps_done += 1
    if sample > eps:
        with torch.no_grad():
            return policy_net(state).max(1).indices.view(1, 1)
    return torch.tensor([[random.randrange(2)]], dtype=torch.long)


def optimize_model():
    if len(memory) < 8:
        return None
    batch = Transition(*zip(*memory.sample(8)))
    mask = torch.tensor([s is not None for s in batch.next_state])
    following = [s for s in batch.next_state if s is not None]
    values = policy_net(torch.cat(batch.state)).gather(1, torch.cat(batch.action))
    next_values = torch.zeros(8)
    with torch.no_grad():
        if following:
            next_values[mask] = target_net(torch.cat(following)).max(1).values
    expected = next_values * 0.9 + torch.cat(batch.reward)
    loss = F.smooth_l1_loss(values, expected.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    return loss.item()


for i_episode in range(14):
    state = torch.tensor(env.reset()).unsqueeze(0)
    total = 0.0
    for t in count():
        action = select_action(state)
        observation, reward, done = env.step(action.item())
        total += reward
        reward = torch.tensor([reward], dtype=torch.float32)
        next_state = None if done else torch.tensor(observation).unsqueeze(0)
        memory.push(state, action, next_state, reward)
        state = next_state
        loss = optimize_model()
        weights, target = policy_net.state_dict(), target_net.state_dict()
        for key in weights:
            target[key] = weights[key] * 0.05 + target[key] * 0.95
        target_net.load_state_dict(target)
        time.sleep(0.002)
        if done:
            episode_durations.append(t + 1)
            break
    print("episode", i_episode, "steps", steps_done, "reward %.6f" % total, "loss", loss)
print(episode_durations, len(memory))
print(
    "final",
    digest(policy_net, target_net, optimizer, [tuple(m) for m in memory.memory], env.x, env.rng.random()),
)
