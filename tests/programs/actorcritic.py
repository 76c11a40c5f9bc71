"""actor_critic: named tuples of live graphs, gym-like environments with their own RandomState, endless episodes."""

import argparse
from collections import namedtuple
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sums import digest
from torch.distributions import Categorical

parser = argparse.ArgumentParser(description="PyTorch actor-critic example")
parser.add_argument("--gamma", type=float, default=0.99, metavar="G")
parser.add_argument("--seed", type=int, default=543, metavar="N")
parser.add_argument("--render", action="store_true")
parser.add_argument("--log-interval", type=int, default=3, metavar="N")
args = parser.parse_args()


class Discrete:
    def __init__(self, n):
        self.n = n
        self._np_random = None

    @property
    def np_random(self):
        if self._np_random is None:
            self.seed()
        return self._np_random

    def seed(self, seed=None):
        self._np_random = np.random.Generator(np.random.PCG64(seed))
        return [seed]

    def sample(self):
        return int(self.np_random.integers(self.n))


class Env:
    metadata = {"render.modes": ["human"]}

    def __init__(self):
        self.action_space = Discrete(2)
        self.state = None
        self.np_random = None

    @property
    def unwrapped(self):
        return self

    def reset(self, *, seed=None, options=None):
        if seed is not None or self.np_random is None:
            self.np_random = np.random.RandomState(seed)
        self.state = self.np_random.uniform(low=-0.05, high=0.05, size=(4,))
        return np.array(self.state, dtype=np.float32), {}

    def step(self, action):
        x, x_dot, theta, theta_dot = self.state
        force = 10.0 if action == 1 else -10.0
        temp = (force + 0.05 * theta_dot**2 * np.sin(theta)) / 1.1
        acc = (9.8 * np.sin(theta) - np.cos(theta) * temp) / (
            0.5 * (4.0 / 3.0 - 0.1 * np.cos(theta) ** 2 / 1.1)
        )
        self.state = (x + 0.02 * x_dot, x_dot + 0.02 * temp, theta + 0.02 * theta_dot, theta_dot + 0.02 * acc)
        done = bool(abs(self.state[0]) > 2.4 or abs(self.state[2]) > 0.2)
        return np.array(self.state, dtype=np.float32), 1.0, done, False, {}


class TimeLimit:
    def __init__(self, env, max_episode_steps):
        self.env = env
        self._max = max_episode_steps
        self._elapsed = None

    def __getattr__(self, name):
        return getattr(self.env, name)

    def reset(self, **kw):
        self._elapsed = 0
        return self.env.reset(**kw)

    def step(self, action):
        obs, r, term, trunc, info = self.env.step(action)
        self._elapsed += 1
        return obs, r, term, trunc or self._elapsed >= self._max, info


env = TimeLimit(Env(), 14)
env.reset(seed=args.seed)
torch.manual_seed(args.seed)

SavedAction = namedtuple("SavedAction", ["log_prob", "value"])


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(4, 16)
        self.action_head = nn.Linear(16, 2)
        self.value_head = nn.Linear(16, 1)
        self.saved_actions = []
        self.rewards = []

    def forward(self, x):
        x = F.relu(self.affine1(x))
        action_prob = F.softmax(self.action_head(x), dim=-1)
        state_values = self.value_head(x)
        return action_prob, state_values


model = Policy()
optimizer = optim.Adam(model.parameters(), lr=3e-2)
eps = np.finfo(np.float32).eps.item()


def select_action(state):
    state = torch.from_numpy(state).float()
    probs, state_value = model(state)
    m = Categorical(probs)
    action = m.sample()
    model.saved_actions.append(SavedAction(m.log_prob(action), state_value))
    return action.item()


def finish_episode():
    R = 0
    saved_actions = model.saved_actions
    policy_losses = []
    value_losses = []
    returns = []
    for r in model.rewards[::-1]:
        R = r + args.gamma * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    for (log_prob, value), R in zip(saved_actions, returns):
        advantage = R - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([R])))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    del model.rewards[:]
    del model.saved_actions[:]


def main():
    running_reward = 10
    for i_episode in count(1):
        state, _ = env.reset()
        ep_reward = 0
        for t in range(1, 10000):
            action = select_action(state)
            state, reward, done, truncated, _ = env.step(action)
            if args.render:
                env.render()
            model.rewards.append(reward)
            ep_reward += reward
            if done or truncated:
                break
        running_reward = 0.05 * ep_reward + (1 - 0.05) * running_reward
        finish_episode()
        if i_episode % args.log_interval == 0:
            print(
                "Episode {}\tLast reward: {:.2f}\tAverage reward: {:.2f}".format(
                    i_episode, ep_reward, running_reward
                )
            )
        if i_episode >= 16 and env.action_space.sample() == 1:
            print(
                "Solved! Running reward is now {} and the last episode runs to {} time steps!".format(
                    running_reward, t
                )
            )
            break


env.action_space.seed(4)
if __name__ == "__main__":
    main()
    print("final", digest(model, optimizer, env.np_random.get_state(), env.state))
