"""Evolution strategies without autograd, a genetic algorithm of named tuples, a hill climber that counts in class attributes."""

import bisect
import heapq
import operator
import random
from collections import Counter, OrderedDict, deque, namedtuple
from functools import partial, reduce

import numpy as np
import torch
from sums import digest, seed_everything
from torch.nn.utils import parameters_to_vector, vector_to_parameters

Individual = namedtuple("Individual", "genome fitness age", defaults=(None, 0))


class Population:
    born = 0
    __slots__ = ("members", "rng", "hall", "__weakref__")

    def __init__(self, rng, size):
        self.rng = rng
        self.members = [self.make(tuple(rng.getrandbits(1) for _ in range(16))) for _ in range(size)]
        self.hall = []

    @classmethod
    def make(cls, genome, age=0):
        cls.born += 1
        return Individual(genome, fitness=sum(b if i % 3 else 1 - b for i, b in enumerate(genome)), age=age)

    def tournament(self, k=3):
        return max(self.rng.sample(self.members, k), key=operator.attrgetter("fitness"))

    def breed(self):
        a, b = self.tournament(), self.tournament()
        cut = self.rng.randrange(1, 16)
        child = a.genome[:cut] + b.genome[cut:]
        return self.make(tuple(g ^ (self.rng.random() < 0.05) for g in child))

    def __iter__(self):
        return iter(self.members)

    def step(self):
        elite = heapq.nlargest(2, self.members, key=lambda m: (m.fitness, m.genome))
        self.members = [e._replace(age=e.age + 1) for e in elite] + [
            self.breed() for _ in range(len(self.members) - 2)
        ]
        bisect.insort(self.hall, (elite[0].fitness, Population.born))
        return elite[0]


def rollout(theta, target, noise):
    return -float(((theta @ target.T + noise) ** 2).sum())


seed_everything(12)
population = Population(random.Random(5), 10)
for generation in range(12):
    best = population.step()
    ages = Counter(m.age for m in population)
    print(
        f"generation {generation} best {best.fitness} age {best.age} born {Population.born} {sorted(ages.items())}"
    )

net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).requires_grad_(False)
x = torch.randn(20, 3)
y = x.prod(1, keepdim=True)
theta = parameters_to_vector(net.parameters())
momentum = torch.zeros_like(theta)
baseline = deque(maxlen=5)


def fitness(vector):
    vector_to_parameters(vector, net.parameters())
    return -((net(x) - y) ** 2).mean().item()


for iteration in range(10):
    eps = torch.randn(6, len(theta))
    scores = torch.tensor([fitness(theta + sign * 0.1 * e) for e in eps for sign in (1, -1)]).view(6, 2)
    ranks = scores.flatten().argsort().argsort().view(6, 2).float() / 11 - 0.5
    momentum = 0.9 * momentum + ((ranks[:, :1] - ranks[:, 1:]) * eps).mean(0)
    theta = theta + 0.1 * momentum
    baseline.append(fitness(theta))
    print(f"es {iteration} fitness {baseline[-1]:.6f} mean {sum(baseline) / len(baseline):.6f}")

climb = partial(rollout, target=np.eye(3), noise=np.random.randn(3))
point, value, temperature, stalled, moves = np.zeros(3), -np.inf, 1.0, 0, OrderedDict()
while stalled < 6:
    step = np.random.normal(scale=temperature, size=3)
    if (new := climb(point + step)) > value or np.random.rand() < np.exp((new - value) / temperature) * 0.1:
        point, value, stalled = point + step, new, 0
        moves[len(moves)] = round(new, 5)
        moves.move_to_end(len(moves) - 1, last=False)
    else:
        stalled += 1
    temperature *= 0.97
    print(f"value {value:.5f} temperature {temperature:.4f} stalled {stalled}")
print(reduce(operator.add, moves.values(), 0.0), next(iter(moves)))
print("final", digest(theta, momentum, point, list(baseline), population.hall, population.rng.random()))
