"""AlphaZero on a tiny Nim: MCTS with recursion and dicts keyed by state, self-play, an arena, pickled examples, match statements."""

import math
import pickle
from abc import ABC, abstractmethod
from collections import deque
from random import shuffle

import numpy as np
import torch
import torch.nn as nn
from sums import digest, seed_everything


class Game(ABC):
    @abstractmethod
    def next_state(self, state, action): ...

    @abstractmethod
    def ended(self, state): ...


class Nim(Game):
    actions = 3

    def start(self):
        return (9, 1)

    def next_state(self, state, action):
        return (state[0] - action - 1, -state[1])

    def valid(self, state):
        return np.array([1.0 if a + 1 <= state[0] else 0.0 for a in range(self.actions)])

    def ended(self, state):
        return -1 if state[0] == 0 else 0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.1))
        self.pi, self.v = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x):
        h = self.body(x)
        return torch.log_softmax(self.pi(h), dim=1), torch.tanh(self.v(h))


def encode(state):
    x = torch.zeros(10)
    x[state[0]] = 1
    return x


class MCTS:
    def __init__(self, game, nnet, sims=6, cpuct=1.0):
        self.game, self.nnet, self.sims, self.cpuct = game, nnet, sims, cpuct
        self.Qsa, self.Nsa, self.Ns, self.Ps = {}, {}, {}, {}

    def probabilities(self, state, temp=1):
        for _ in range(self.sims):
            self.search(state)
        counts = [self.Nsa.get((state[0], a), 0) for a in range(self.game.actions)]
        if temp == 0:
            best = np.random.choice(np.argwhere(counts == np.max(counts)).flatten())
            probs = [0] * len(counts)
            probs[best] = 1
            return probs
        return (
            [x / float(sum(counts)) for x in (c ** (1.0 / temp) for c in counts)]
            if sum(counts)
            else [1 / 3] * 3
        )

    def search(self, state):
        s = state[0]
        if self.game.ended(state) != 0:
            return -self.game.ended(state)
        if s not in self.Ps:
            self.nnet.eval()
            with torch.no_grad():
                pi, v = self.nnet(encode(state).unsqueeze(0))
            masked = pi.exp().numpy()[0] * self.game.valid(state)
            self.Ps[s] = masked / masked.sum()
            self.Ns[s] = 0
            return -v.item()
        cur_best, best_act = -float("inf"), -1
        valids = self.game.valid(state)
        for a in range(self.game.actions):
            if valids[a]:
                if (s, a) in self.Qsa:
                    u = self.Qsa[(s, a)] + self.cpuct * self.Ps[s][a] * math.sqrt(self.Ns[s]) / (
                        1 + self.Nsa[(s, a)]
                    )
                else:
                    u = self.cpuct * self.Ps[s][a] * math.sqrt(self.Ns[s] + 1e-8)
                if u > cur_best:
                    cur_best, best_act = u, a
        a = best_act
        v = self.search(self.game.next_state(state, a))
        if (s, a) in self.Qsa:
            self.Qsa[(s, a)] = (self.Nsa[(s, a)] * self.Qsa[(s, a)] + v) / (self.Nsa[(s, a)] + 1)
            self.Nsa[(s, a)] += 1
        else:
            self.Qsa[(s, a)], self.Nsa[(s, a)] = v, 1
        self.Ns[s] += 1
        return -v


class Coach:
    def __init__(self, game):
        self.game, self.nnet, self.pnet = game, Net(), Net()
        self.optimizer = torch.optim.Adam(self.nnet.parameters(), lr=1e-2)
        self.history = []

    def execute_episode(self):
        examples, state, step = [], self.game.start(), 0
        mcts = MCTS(self.game, self.nnet)
        while True:
            step += 1
            pi = mcts.probabilities(state, temp=int(step < 3))
            examples.append((encode(state), state[1], pi))
            action = np.random.choice(len(pi), p=pi)
            state = self.game.next_state(state, action)
            r = self.game.ended(state)
            if r != 0:
                return [(x, p, r * ((-1) ** (who != state[1]))) for x, who, p in examples]

    def train(self, examples):
        self.nnet.train()
        for epoch in range(2):
            for b in range(len(examples) // 6):
                ids = np.random.randint(len(examples), size=6)
                boards, pis, vs = list(zip(*[examples[i] for i in ids]))
                out_pi, out_v = self.nnet(torch.stack(boards))
                loss = (
                    -(torch.tensor(pis, dtype=torch.float32) * out_pi).sum() / 6
                    + ((out_v.view(-1) - torch.tensor(vs, dtype=torch.float32)) ** 2).mean()
                )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return loss.item()

    def play(self, players):
        state, turn = self.game.start(), 0
        while self.game.ended(state) == 0:
            state = self.game.next_state(state, int(np.argmax(players[turn % 2](state))))
            turn += 1
        return 1 if turn % 2 == 1 else -1

    def learn(self, iterations=3):
        for i in range(1, iterations + 1):
            print(f"Starting Iter #{i} ...")
            iteration_examples = deque([], maxlen=60)
            for _ in range(3):
                iteration_examples += self.execute_episode()
            self.history.append(iteration_examples)
            if len(self.history) > 2:
                self.history.pop(0)
            with open("checkpoint.examples", "wb+") as f:
                pickle.Pickler(f).dump([[tuple(x.tolist()) for x, _, _ in e] for e in self.history])
            examples = []
            for e in self.history:
                examples.extend(e)
            shuffle(examples)
            self.pnet.load_state_dict(self.nnet.state_dict())
            pmcts = MCTS(self.game, self.pnet)
            loss = self.train(examples)
            nmcts = MCTS(self.game, self.nnet)
            results = [
                self.play(p)
                for p in (
                    (lambda s: pmcts.probabilities(s, temp=0), lambda s: nmcts.probabilities(s, temp=0)),
                )
                * 3
            ]
            match results:
                case [1, 1, *_]:
                    print("REJECTING NEW MODEL", results)
                    self.nnet.load_state_dict(self.pnet.state_dict())
                case [first, *rest] if first == -1 or sum(rest) < 0:
                    print("ACCEPTING NEW MODEL", results)
                case _:
                    print("UNDECIDED", results)
            print(f"loss {loss:.6f} examples {len(examples)}")


seed_everything(6)
coach = Coach(Nim())
coach.learn()
print("final", digest(coach.nnet, coach.pnet, coach.optimizer, len(coach.history)))
