"""DDPM: schedules in buffers, an EMA model by deepcopy, self-conditioning by chance, samples drawn each epoch."""

import copy
import math
from functools import partial
from inspect import isfunction

import torch
import torch.nn as nn
import torch.nn.functional as F
from sums import digest, seed_everything


def exists(x):
    return x is not None


def default(val, d):
    if exists(val):
        return val
    return d() if isfunction(d) else d


def cycle(dl):
    while True:
        for data in dl:
            yield data


def extract(a, t, x_shape):
    b, *_ = t.shape
    out = a.gather(-1, t)
    return out.reshape(b, *((1,) * (len(x_shape) - 1)))


class EMA:
    def __init__(self, beta):
        self.beta = beta
        self.step = 0

    def update_model_average(self, ma_model, current_model):
        for current_params, ma_params in zip(current_model.parameters(), ma_model.parameters()):
            old_weight, up_weight = ma_params.data, current_params.data
            ma_params.data = old_weight * self.beta + (1 - self.beta) * up_weight

    def step_ema(self, ema_model, model, step_start_ema=6):
        if self.step < step_start_ema:
            ema_model.load_state_dict(model.state_dict())
            self.step += 1
            return
        self.update_model_average(ema_model, model)
        self.step += 1


class Denoiser(nn.Module):
    def __init__(self, dim=2, hidden=24):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim * 2 + 8, hidden), nn.SiLU(), nn.Dropout(0.1), nn.Linear(hidden, dim)
        )

    def forward(self, x, t, cond=None):
        freqs = torch.exp(-math.log(1000) * torch.arange(4) / 4)
        args = t[:, None].float() * freqs
        cond = default(cond, lambda: torch.zeros_like(x))
        return self.net(torch.cat((x, cond, args.sin(), args.cos()), dim=1))


class GaussianDiffusion(nn.Module):
    def __init__(self, model, timesteps=12):
        super().__init__()
        self.model = model
        betas = torch.linspace(1e-3, 0.2, timesteps, dtype=torch.float64)
        alphas = 1.0 - betas
        alphas_cumprod = torch.cumprod(alphas, dim=0)
        register_buffer = lambda name, val: self.register_buffer(name, val.to(torch.float32))
        register_buffer("betas", betas)
        register_buffer("sqrt_alphas_cumprod", torch.sqrt(alphas_cumprod))
        register_buffer("sqrt_one_minus_alphas_cumprod", torch.sqrt(1.0 - alphas_cumprod))
        register_buffer("sqrt_recip_alphas", torch.sqrt(1.0 / alphas))
        self.num_timesteps = timesteps
        self.loss_fn = partial(F.smooth_l1_loss, reduction="none")

    def q_sample(self, x_start, t, noise=None):
        noise = default(noise, lambda: torch.randn_like(x_start))
        return (
            extract(self.sqrt_alphas_cumprod, t, x_start.shape) * x_start
            + extract(self.sqrt_one_minus_alphas_cumprod, t, x_start.shape) * noise
        )

    def forward(self, x):
        t = torch.randint(0, self.num_timesteps, (x.shape[0],)).long()
        noise = torch.randn_like(x)
        xt = self.q_sample(x, t, noise)
        cond = None
        if torch.rand(()) < 0.5:
            with torch.no_grad():
                cond = self.model(xt, t).detach_()
        return self.loss_fn(self.model(xt, t, cond), noise).mean(dim=1).mean()

    @torch.no_grad()
    def sample(self, n):
        x = torch.randn(n, 2)
        cond = None
        for i in reversed(range(0, self.num_timesteps)):
            t = torch.full((n,), i, dtype=torch.long)
            eps = self.model(x, t, cond)
            cond = eps
            x = extract(self.sqrt_recip_alphas, t, x.shape) * (
                x
                - extract(self.betas, t, x.shape)
                / extract(self.sqrt_one_minus_alphas_cumprod, t, x.shape)
                * eps
            )
            if i > 0:
                x = x + extract(self.betas, t, x.shape).sqrt() * torch.randn_like(x)
        return x


seed_everything(11)
angles = torch.rand(96) * 2 * math.pi
data = torch.stack((angles.cos(), angles.sin()), dim=1) + 0.05 * torch.randn(96, 2)
dl = cycle(torch.utils.data.DataLoader(data, batch_size=16, shuffle=True, drop_last=True))
diffusion = GaussianDiffusion(Denoiser())
ema_model = copy.deepcopy(diffusion).eval().requires_grad_(False)
ema = EMA(0.9)
optimizer = torch.optim.Adam(diffusion.parameters(), lr=5e-3, betas=(0.9, 0.99))
step, train_num_steps, gradient_accumulate_every = 0, 24, 2
while step < train_num_steps:
    total_loss = 0.0
    for _ in range(gradient_accumulate_every):
        batch = next(dl)
        loss = diffusion(batch) / gradient_accumulate_every
        total_loss += loss.item()
        loss.backward()
    nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    step += 1
    ema.step_ema(ema_model, diffusion)
    if step != 0 and step % 8 == 0:
        milestone = step // 8
        samples = torch.cat(list(map(lambda n: ema_model.sample(n), [4, 3])), dim=0)
        torch.save(
            {
                "step": step,
                "model": diffusion.state_dict(),
                "ema": ema_model.state_dict(),
                "opt": optimizer.state_dict(),
            },
            f"model-{milestone}.pt",
        )
        print(f"milestone {milestone}: samples {samples.abs().mean():.6f}")
    print(f"loss: {total_loss:.4f}")
print("training complete")
dl.close()
print("final", digest(diffusion, ema_model, optimizer, ema.step))
