"""NeRF-like rays with positional encodings and hierarchical samples; a tiny flow and a neural ODE trained by their own phases."""

import json
import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sums import digest, seed_everything

img2mse = lambda x, y: torch.mean((x - y) ** 2)
mse2psnr = lambda x: -10.0 * torch.log(x) / torch.log(torch.Tensor([10.0]))
DEBUG = False


class Embedder:
    def __init__(self, **kwargs):
        self.kwargs = kwargs
        self.create_embedding_fn()

    def create_embedding_fn(self):
        embed_fns = []
        d = self.kwargs["input_dims"]
        out_dim = 0
        if self.kwargs["include_input"]:
            embed_fns.append(lambda x: x)
            out_dim += d
        freq_bands = 2.0 ** torch.linspace(0.0, 2.0, steps=self.kwargs["num_freqs"])
        for freq in freq_bands:
            for p_fn in self.kwargs["periodic_fns"]:
                embed_fns.append(lambda x, p_fn=p_fn, freq=freq: p_fn(x * freq))
                out_dim += d
        self.embed_fns = embed_fns
        self.out_dim = out_dim

    def embed(self, inputs):
        return torch.cat([fn(inputs) for fn in self.embed_fns], -1)


def get_embedder(multires):
    embedder_obj = Embedder(
        include_input=True, input_dims=2, num_freqs=multires, periodic_fns=[torch.sin, torch.cos]
    )
    embed = lambda x, eo=embedder_obj: eo.embed(x)
    return embed, embedder_obj.out_dim


class NeRF(nn.Module):
    def __init__(self, D=3, W=16, input_ch=2, skips=(1,)):
        super().__init__()
        self.skips = skips
        self.pts_linears = nn.ModuleList(
            [nn.Linear(input_ch, W)] + [nn.Linear(W + input_ch * (i in skips), W) for i in range(D - 1)]
        )
        self.output_linear = nn.Linear(W, 2)

    def forward(self, x):
        h = x
        for i, l in enumerate(self.pts_linears):
            h = F.relu(self.pts_linears[i](h))
            if i in self.skips:
                h = torch.cat([x, h], -1)
        return self.output_linear(h)


def batchify(fn, chunk):
    if chunk is None:
        return fn

    def ret(inputs):
        return torch.cat([fn(inputs[i : i + chunk]) for i in range(0, inputs.shape[0], chunk)], 0)

    return ret


def sample_pdf(bins, weights, n):
    pdf = (weights + 1e-5) / torch.sum(weights + 1e-5, -1, keepdim=True)
    cdf = torch.cat([torch.zeros_like(pdf[..., :1]), torch.cumsum(pdf, -1)], -1)
    u = torch.rand(list(cdf.shape[:-1]) + [n]).contiguous()
    inds = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[-1] - 1)
    return torch.gather(bins, 1, (inds - 1).clamp(max=bins.shape[1] - 1)) + 0.01 * u


def render(rays, network_fn, embed_fn, n_samples=6, perturb=True, fine=None):
    t = torch.linspace(0, 1, n_samples).expand(len(rays), n_samples)
    if perturb:
        t = t + torch.rand(t.shape) / n_samples
    for fn in filter(None, (network_fn, fine)):
        pts = torch.stack([rays[:, :1] + t * rays[:, 1:2], t], -1)
        raw = batchify(lambda flat: fn(embed_fn(flat)), 64)(pts.reshape(-1, 2)).view(*pts.shape[:-1], 2)
        alpha = 1.0 - torch.exp(-F.relu(raw[..., 1]))
        weights = (
            alpha
            * torch.cumprod(torch.cat([torch.ones((alpha.shape[0], 1)), 1.0 - alpha + 1e-10], -1), -1)[:, :-1]
        )
        out = torch.sum(weights * torch.sigmoid(raw[..., 0]), -1)
        t = torch.sort(torch.cat([t, sample_pdf(t, weights.detach(), 3)], -1), -1)[0]
        yield out


def train():
    basedir, expname = "./logs", "tiny"
    os.makedirs(os.path.join(basedir, expname), exist_ok=True)
    args = {"N_rand": 12, "lrate": 5e-3, "lrate_decay": 0.02, "i_weights": 10, "i_print": 4}
    with open(os.path.join(basedir, expname, "args.txt"), "w") as file:
        for arg in sorted(args):
            file.write("{} = {}\n".format(arg, args[arg]))
    rays = np.random.rand(60, 2).astype(np.float32)
    target = np.sin(3 * rays[:, 0]) * 0.5 + 0.5
    rays_rgb = np.concatenate([rays, target[:, None].astype(np.float32)], 1)
    np.random.shuffle(rays_rgb)
    embed_fn, ch = get_embedder(3)
    model, model_fine = NeRF(input_ch=ch), NeRF(input_ch=ch)
    grad_vars = list(model.parameters())
    grad_vars += list(model_fine.parameters())
    optimizer = torch.optim.Adam(params=grad_vars, lr=args["lrate"], betas=(0.9, 0.999))
    start = 0
    ckpts = [
        os.path.join(basedir, expname, f)
        for f in sorted(os.listdir(os.path.join(basedir, expname)))
        if "tar" in f
    ]
    print("Found ckpts", ckpts)
    if len(ckpts) > 0:
        start = torch.load(ckpts[-1])["global_step"]
    global_step = start
    rays_rgb = torch.Tensor(rays_rgb)
    i_batch = 0
    for i in range(start + 1, 25):
        batch = rays_rgb[i_batch : i_batch + args["N_rand"]]
        batch_rays, target_s = batch[:, :2], batch[:, 2]
        i_batch += args["N_rand"]
        if i_batch >= rays_rgb.shape[0]:
            print("Shuffle data after an epoch!")
            rand_idx = torch.randperm(rays_rgb.shape[0])
            rays_rgb = rays_rgb[rand_idx]
            i_batch = 0
        coarse, fine = render(batch_rays, model, embed_fn, fine=model_fine)
        optimizer.zero_grad()
        img_loss = img2mse(fine, target_s)
        loss = img_loss + img2mse(coarse, target_s)
        psnr = mse2psnr(img_loss.detach())
        loss.backward()
        optimizer.step()
        new_lrate = args["lrate"] * (0.1 ** (global_step / (args["lrate_decay"] * 1000)))
        for param_group in optimizer.param_groups:
            param_group["lr"] = new_lrate
        if i % args["i_weights"] == 0:
            path = os.path.join(basedir, expname, "{:06d}.tar".format(i))
            torch.save(
                {
                    "global_step": global_step,
                    "network_fn_state_dict": model.state_dict(),
                    "optimizer_state_dict": optimizer.state_dict(),
                },
                path,
            )
            print("Saved checkpoints at", path)
        if i % args["i_print"] == 0:
            sys.stdout.write(f"[TRAIN] Iter: {i} Loss: {loss.item():.6f}  PSNR: {psnr.item():.4f}\n")
        global_step += 1
    return model, model_fine, optimizer


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip, self.net = flip, nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x, logdet):
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        return torch.cat([a, b * torch.exp(s) + t], 1), logdet + s.sum(1)


def odeint(f, y, t):
    ys = [y]
    for t0, t1 in zip(t[:-1], t[1:]):
        h = t1 - t0
        k1 = f(t0, y)
        k2 = f(t0 + h / 2, y + h / 2 * k1)
        y = y + h * k2
        ys.append(y)
    return torch.stack(ys)


if __name__ == "__main__":
    seed_everything(17)
    nets = train()
    flow = nn.ModuleList(Coupling(i % 2 == 1) for i in range(3))
    opt = torch.optim.Adamax(flow.parameters(), lr=0.02)
    for it in range(8):
        z, logdet = torch.randn(32, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.7]]), 0
        for layer in flow:
            z, logdet = layer(z, logdet)
        nll = (0.5 * z.pow(2).sum(1) - logdet).mean()
        opt.zero_grad(), nll.backward(), opt.step()
        print(f"flow {it} {nll.item():.6f}")
    func = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    ode_opt = torch.optim.RMSprop(func.parameters(), lr=1e-2)
    ts = torch.linspace(0, 1, 6)
    truth = odeint(lambda t, y: y @ torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]), torch.tensor([[2.0, 0.0]]), ts)
    for itr in range(1, 9):
        ode_opt.zero_grad()
        loss = torch.mean(torch.abs(odeint(lambda t, y: func(y**3), truth[0], ts) - truth))
        loss.backward()
        ode_opt.step()
        if itr % 3 == 0:
            with torch.no_grad():
                print(
                    "Iter {:04d} | Total Loss {:.6f}".format(
                        itr,
                        torch.mean(torch.abs(odeint(lambda t, y: func(y**3), truth[0], ts) - truth)).item(),
                    )
                )
    with open("metrics.json", "w") as f:
        json.dump({"nll": nll.item(), "loss": loss.item()}, f)
    print("final", digest(*nets, flow, opt, func, ode_opt))
