"""A PINN: double backward by autograd.grad, Adam then LBFGS with a counting closure, adaptive weights, early stopping."""

import copy

import numpy as np
import torch
import torch.nn as nn
from sums import digest, seed_everything


class EarlyStopping:
    def __init__(self, patience=3, delta=1e-4):
        self.patience = patience
        self.counter = 0
        self.best_score = None
        self.early_stop = False
        self.best_state = None
        self.delta = delta

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best_score is None:
            self.best_score = score
            self.save(model)
        elif score < self.best_score + self.delta:
            self.counter += 1
            print(f"EarlyStopping counter: {self.counter} out of {self.patience}")
            if self.counter >= self.patience:
                self.early_stop = True
        else:
            self.best_score = score
            self.save(model)
            self.counter = 0

    def save(self, model):
        self.best_state = copy.deepcopy(model.state_dict())


class PINN:
    def __init__(self):
        self.iter = 0
        self.net = nn.Sequential(
            nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 1)
        ).double()
        self.nu = nn.Parameter(torch.tensor([0.3], dtype=torch.double))
        self.net.register_parameter("nu", self.nu)
        self.weights = {"u": 1.0, "f": 1.0}
        x = np.linspace(-1, 1, 12)
        t = np.linspace(0, 1, 8)
        X, T = np.meshgrid(x, t)
        self.grid = np.hstack((X.flatten()[:, None], T.flatten()[:, None]))
        self.lbfgs = torch.optim.LBFGS(
            self.net.parameters(), lr=0.5, max_iter=4, history_size=5, line_search_fn="strong_wolfe"
        )
        self.adam = torch.optim.Adam(self.net.parameters(), lr=5e-3)
        self.history = []

    def resample(self):
        idx = np.random.choice(self.grid.shape[0], 24, replace=False)
        self.x = torch.tensor(self.grid[idx, 0:1], requires_grad=True)
        self.t = torch.tensor(self.grid[idx, 1:2], requires_grad=True)
        self.u = -torch.sin(np.pi * self.x.detach()) * torch.exp(-self.t.detach())

    def net_f(self, x, t):
        u = self.net(torch.cat([x, t], dim=1))
        u_t = torch.autograd.grad(
            u, t, grad_outputs=torch.ones_like(u), retain_graph=True, create_graph=True
        )[0]
        u_x = torch.autograd.grad(
            u, x, grad_outputs=torch.ones_like(u), retain_graph=True, create_graph=True
        )[0]
        u_xx = torch.autograd.grad(
            u_x, x, grad_outputs=torch.ones_like(u_x), retain_graph=True, create_graph=True
        )[0]
        return u, u_t + u * u_x - self.nu * u_xx

    def loss_func(self):
        self.optimizer.zero_grad()
        u_pred, f_pred = self.net_f(self.x, self.t)
        u_loss, f_loss = (u_pred - self.u).pow(2).mean(), f_pred.pow(2).mean()
        loss = self.weights["u"] * u_loss + self.weights["f"] * f_loss
        loss.backward()
        self.iter += 1
        self.history.append((u_loss.item(), f_loss.item()))
        if self.iter % 7 == 0:
            print(
                "Iter %d, Loss: %.5e, Loss_u: %.5e, Loss_f: %.5e, nu: %.6f"
                % (self.iter, loss.item(), u_loss.item(), f_loss.item(), self.nu.item())
            )
        return loss

    def train(self):
        self.net.train()
        stopping = EarlyStopping()
        for phase, self.optimizer, rounds in ("adam", self.adam, 14), ("lbfgs", self.lbfgs, 7):
            for n in range(rounds):
                if n % 4 == 0:
                    self.resample()
                self.optimizer.step(self.loss_func)
                if n % 5 == 4:
                    grads = [p.grad.norm().item() for p in self.net.parameters() if p.grad is not None]
                    self.weights["u"] = 0.9 * self.weights["u"] + 0.1 * max(grads) / (sum(grads) / len(grads))
                stopping(float(np.mean([sum(h) for h in self.history[-3:]])), self.net)
                if stopping.early_stop:
                    print(phase, "stops early")
                    break
            stopping.counter, stopping.early_stop = 0, False
        self.net.load_state_dict(stopping.best_state)


if __name__ == "__main__":
    seed_everything(1234)
    model = PINN()
    model.train()
    print("final", digest(model.net, model.lbfgs, model.adam, model.weights, model.history[-1], model.x))
