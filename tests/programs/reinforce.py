"""REINFORCE as in pytorch/examples: log probabilities with their graphs wait on the policy until the episode ends."""

import argparse
import time
from collections import deque
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sums import digest, seed_everything
from torch.distributions import Categorical

parser = argparse.ArgumentParser()
parser.add_argument("--gamma", type=float, default=0.95)
parser.add_argument("--seed", type=int, default=5)
args = parser.parse_args()
seed_everything(args.seed)
rng = np.random.RandomState(args.seed)


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(2, 16)
        self.dropout = nn.Dropout(p=0.2)
        self.affine2 = nn.Linear(16, 2)
        self.saved_log_probs = []
        self.rewards = []

    def forward(self, x):
        return F.softmax(self.affine2(F.relu(self.dropout(self.affine1(x)))), dim=1)


policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)
eps = np.finfo(np.float32).eps.item()


def select_action(state):
    state = torch.from_numpy(state).float().unsqueeze(0)
    probs = policy(state)
    m = Categorical(probs)
    action = m.sample()
    policy.saved_log_probs.append(m.log_prob(action))
    return action.item()


def finish_episode():
    R = 0
    policy_loss = []
    returns = deque()
    for r in policy.rewards[::-1]:
        R = r + args.gamma * R
        returns.appendleft(R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    for log_prob, R in zip(policy.saved_log_probs, returns):
        policy_loss.append(-log_prob * R)
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum()
    policy_loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]


def main():
    running_reward = 10
    for i_episode in count(1):
        state, ep_reward = rng.randn(2), 0
        for t in range(1, 100):
            action = select_action(state)
            state = state * 0.9 + (action - 0.5) * np.array([0.3, -0.1]) + rng.randn(2) * 0.05
            reward = float(state[0])
            policy.rewards.append(reward)
            ep_reward += reward
            time.sleep(0.001)
            if (abs(state[0]) > 1.6 and t > 3) or t >= 15:
                break
            print("step", i_episode, t)
        running_reward = 0.05 * ep_reward + (1 - 0.05) * running_reward
        finish_episode()
        print(
            "Episode {}\tLast reward: {:.6f}\tAverage reward: {:.6f}".format(
                i_episode, ep_reward, running_reward
            )
        )
        if i_episode == 20:
            break
    print("final", digest(policy, optimizer, rng.get_state()))


if __name__ == "__main__":
    main()
