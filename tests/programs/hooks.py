"""torch.func, vmap, hooks, parametrizations, pruning, a straight-through function, bf16 autocast, anomaly mode, distillation."""

import logging
import sys
from collections import defaultdict
from contextlib import ExitStack, nullcontext

import torch
import torch.nn.functional as F
from sums import digest, seed_everything
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrize, prune

log = logging.getLogger("train")
log.setLevel(logging.DEBUG)
log.addHandler(logging.StreamHandler(sys.stdout))
log.addHandler(logging.FileHandler("train.log", mode="w"))


class Binarize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(w):
        return w.sign() * w.abs().mean()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (w,) = ctx.saved_tensors
        return g * (w.abs() <= 1)


class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).transpose(-1, -2)


class BinaryLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, Binarize.apply(self.weight), self.bias)


class Watch:
    def __init__(self, model):
        self.stats, self.handles = defaultdict(list), []
        for name, module in model.named_modules():
            if not list(module.children()):
                self.handles.append(module.register_forward_hook(self.forward(name)))
                self.handles.append(module.register_full_backward_hook(self.backward(name)))

    def forward(self, name):
        def hook(module, inputs, output):
            self.stats[name].append(round(output.detach().float().abs().mean().item(), 6))

        return hook

    def backward(self, name):
        def hook(module, grad_in, grad_out):
            self.stats[name + ".grad"].append(round(grad_out[0].float().norm().item(), 6))

        return hook

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for h in self.handles:
            h.remove()


seed_everything(31)
teacher = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))
student = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), BinaryLinear(6, 8), nn.Hardtanh(), nn.Linear(8, 4))
parametrize.register_parametrization(student[0], "weight", Symmetric())
nn.utils.parametrizations.spectral_norm(teacher[2])
x, y = torch.randn(60, 6), torch.randint(4, (60,))
opt_t = torch.optim.Adagrad(teacher.parameters(), lr=0.05)
for step in range(10):
    loss = F.cross_entropy(teacher(x), y)
    opt_t.zero_grad()
    loss.backward()
    opt_t.step()
    log.debug("teacher %d %.6f", step, loss.item())
teacher.eval()
for p in teacher.parameters():
    p.grad = None


def sample_loss(params, buffers, xi, yi):
    return F.cross_entropy(functional_call(student, (params, buffers), (xi.unsqueeze(0),)), yi.unsqueeze(0))


per_sample = vmap(grad(sample_loss), in_dims=(None, None, 0, 0))
clip = lambda g, bound: (
    g * (bound / (g.flatten(1).norm(dim=1) + 1e-6)).clamp(max=1).view(-1, *[1] * (g.dim() - 1))
)
opt = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, nesterov=True)
gradient_log = []
student[4].bias.register_hook(lambda g: gradient_log.append(g.sum().item()))
opt.register_step_post_hook(lambda o, a, k: gradient_log.append(-1))
with Watch(student) as watch:
    for epoch in range(4):
        if epoch == 2:
            prune.l1_unstructured(student[4], "weight", amount=0.3)
            opt = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
            log.info("pruned %d", int((student[4].weight == 0).sum()))
        order = torch.randperm(60)
        for idx in order.chunk(4):
            context = torch.autocast("cpu", dtype=torch.bfloat16) if epoch % 2 else nullcontext()
            with ExitStack() as stack:
                stack.enter_context(context)
                if epoch == 3:
                    stack.enter_context(torch.autograd.set_detect_anomaly(True))
                with torch.no_grad():
                    soft = F.softmax(teacher(x[idx]) / 2, dim=1)
                out = student(x[idx])
                loss = F.kl_div(
                    F.log_softmax(out.float() / 2, dim=1), soft.float(), reduction="batchmean"
                ) * 4 + 0.3 * F.cross_entropy(out.float(), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        log.info(
            "epoch %d loss %.6f sparsity %.3f",
            epoch,
            loss.item(),
            (student[4].weight == 0).float().mean().item(),
        )
prune.remove(student[4], "weight")
params = {k: v.detach() for k, v in student.named_parameters()}
for step in range(3):
    with parametrize.cached():
        grads = per_sample(params, dict(student.named_buffers()), x[:8], y[:8])
    params = {k: params[k] - 0.05 * clip(grads[k], 0.5).mean(0) for k in params}
    log.info("dp step %d norm %.6f", step, sum(v.norm() for v in params.values()))
print({k: (len(v), v[-1]) for k, v in sorted(watch.stats.items())})
print("final", digest(teacher, student, opt, params, gradient_log))
