"""What a loop that trains has gathered is read behind it, before the next loop: the best weights, the last of many losses."""

import copy

import torch


class Model:
    def __init__(self):
        self.net = torch.nn.Linear(3, 2)
        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.01)
        self.history = []
        self.best = None

    def fit(self, steps):
        for step in range(steps):
            loss = train(self.net, self.opt)
            self.history.append(loss)
            if self.best is None or loss < min(self.history[:-1]):
                self.best = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.best)
        print("done", self.history[-1])
        return self

    def predict(self, data):
        out = []
        for batch in data:
            out.append(measure(self.net, batch))
        return out


def train(net, opt):
    loss = net(torch.randn(4, 3)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


def measure(net, batch):
    return net(batch).sum().item()


def run(net, opt, steps):
    losses, best, best_state = [], float("inf"), None
    for step in range(steps):
        losses.append(train(net, opt))
        if losses[-1] < best:
            best, best_state = losses[-1], copy.deepcopy(net.state_dict())
    net.load_state_dict(best_state)
    return losses[-1], losses


torch.manual_seed(0)
model = Model().fit(5)
print("best", min(model.history), model.history.index(min(model.history)))
out = model.predict(torch.randn(3, 4, 3))
last, losses = run(model.net, model.opt, 70)
print("last", last == losses[-1], len(losses))
for epoch in range(2):
    rates = []
    for step in range(66):
        rates.append(train(model.net, model.opt))
    spread = max(rates) - rates[-1]
    print(epoch, spread, model.predict(torch.randn(2, 4, 3)))
try:
    print(rates[1000])
except IndexError as error:
    print("no such rate:", error)
