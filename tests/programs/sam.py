"""SAM with first and second step, a bypassed batch norm, SWA by AveragedModel, SWALR, update_bn, checkpointed layers."""

import torch
import torch.nn as nn
from sums import digest, seed_everything
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, adaptive=False, **kwargs):
        defaults = dict(rho=rho, adaptive=adaptive, **kwargs)
        super(SAM, self).__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grad_norm = self._grad_norm()
        for group in self.param_groups:
            scale = group["rho"] / (grad_norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                e_w = (torch.pow(p, 2) if group["adaptive"] else 1.0) * p.grad * scale.to(p)
                p.add_(e_w)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()

    def _grad_norm(self):
        return torch.norm(
            torch.stack(
                [
                    ((torch.abs(p) if group["adaptive"] else 1.0) * p.grad).norm(p=2)
                    for group in self.param_groups
                    for p in group["params"]
                    if p.grad is not None
                ]
            ),
            p=2,
        )

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups


def disable_running_stats(model):
    def _disable(module):
        if isinstance(module, _BatchNorm):
            module.backup_momentum = module.momentum
            module.momentum = 0

    model.apply(_disable)


def enable_running_stats(model):
    def _enable(module):
        if isinstance(module, _BatchNorm) and hasattr(module, "backup_momentum"):
            module.momentum = module.backup_momentum

    model.apply(_enable)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 16)
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.1))
                for _ in range(4)
            ]
        )
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(16, 3))

    def forward(self, x):
        x = checkpoint(self.stem, x, use_reentrant=False)
        x = checkpoint_sequential(self.blocks, 2, x, use_reentrant=False) if self.training else self.blocks(x)
        return self.head(x)


seed_everything(8)
x = torch.randn(96, 5)
y = (x.sum(1) > 0).long() + (x[:, 0] > 1).long()
loader = torch.utils.data.DataLoader(list(zip(x, y)), batch_size=24, shuffle=True)
model = Net()
optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, adaptive=True, rho=0.5)
swa_model = AveragedModel(model)
ema_model = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
swa_scheduler = SWALR(optimizer, anneal_strategy="linear", anneal_epochs=2, swa_lr=0.02)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
for epoch in range(6):
    model.train()
    for i, (inputs, targets) in enumerate(loader):
        enable_running_stats(model)
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.first_step(zero_grad=True)
        disable_running_stats(model)
        criterion(model(inputs), targets).backward()
        optimizer.second_step(zero_grad=True)
        ema_model.update_parameters(model)
        if epoch < 4:
            scheduler.step(epoch + i / len(loader))
    if epoch >= 4:

        def closure():
            loss = criterion(model(x), y)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
        optimizer.zero_grad()
        swa_model.update_parameters(model)
        swa_scheduler.step()
    with torch.no_grad():
        accuracy = (model.eval()(x).argmax(1) == y).float().mean().item()
    print(f"epoch {epoch} loss {loss.item():.6f} acc {accuracy:.4f} lr {optimizer.param_groups[0]['lr']:.5f}")
update_bn(((inputs,) for inputs, _ in loader), swa_model)
print(
    "final",
    digest(model, swa_model, ema_model, optimizer.base_optimizer, scheduler.T_cur, swa_model.n_averaged),
)
