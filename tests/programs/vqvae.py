"""VQ-VAE: an EMA codebook in buffers, a straight-through autograd.Function, perplexity, dead codes revived at random."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sums import digest, seed_everything


class StraightThrough(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx, inputs, codebook):
        StraightThrough.calls += 1
        distances = torch.cdist(inputs, codebook)
        indices = distances.argmin(dim=1)
        ctx.save_for_backward(indices, inputs)
        ctx.mark_non_differentiable(indices)
        return codebook.index_select(0, indices), indices

    @staticmethod
    def backward(ctx, grad_output, grad_indices):
        indices, inputs = ctx.saved_tensors
        return grad_output.clone() + 1e-3 * inputs, None


class VectorQuantizerEMA(nn.Module):
    def __init__(self, num, dim, decay=0.9, eps=1e-5):
        super().__init__()
        self.decay, self.eps = decay, eps
        self.register_buffer("codebook", torch.randn(num, dim))
        self.register_buffer("cluster_size", torch.ones(num))
        self.ema_w = nn.Parameter(self.codebook.clone(), requires_grad=False)
        self.usage = torch.zeros(num, dtype=torch.long)

    def forward(self, x):
        quantized, indices = StraightThrough.apply(x, self.codebook)
        one_hot = F.one_hot(indices, len(self.codebook)).to(x.dtype)
        if self.training:
            self.usage += one_hot.sum(0).long()
            with torch.no_grad():
                self.cluster_size.mul_(self.decay).add_(one_hot.sum(0), alpha=1 - self.decay)
                n = self.cluster_size.sum()
                size = (self.cluster_size + self.eps) / (n + len(self.codebook) * self.eps) * n
                self.ema_w = nn.Parameter(
                    self.ema_w * self.decay + (1 - self.decay) * (one_hot.T @ x), requires_grad=False
                )
                self.codebook = self.ema_w / size.unsqueeze(1)
        loss = 0.25 * F.mse_loss(quantized.detach(), x)
        avg = one_hot.mean(0)
        return quantized, loss, torch.exp(-torch.sum(avg * torch.log(avg + 1e-10)))

    @torch.no_grad()
    def revive(self, x):
        dead = (self.usage == 0).nonzero().flatten()
        for code in dead.tolist():
            self.codebook[code] = x[torch.randint(len(x), ()).item()]
        self.usage.zero_()
        return len(dead)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(1, 4, 4, 2, 1), nn.ReLU(True), nn.Conv1d(4, 3, 4, 2, 1))
        self.vq = VectorQuantizerEMA(10, 3)
        self.decoder = nn.Sequential(
            nn.ConvTranspose1d(3, 4, 4, 2, 1), nn.ReLU(True), nn.ConvTranspose1d(4, 1, 4, 2, 1)
        )

    def forward(self, x):
        z = self.encoder(x)
        flat = z.permute(0, 2, 1).reshape(-1, 3)
        q, loss, perplexity = self.vq(flat)
        return loss, self.decoder(q.view(z.shape[0], -1, 3).permute(0, 2, 1)), perplexity, flat


seed_everything(4)
data = torch.sin(torch.linspace(0, 6, 16) * torch.rand(48, 1, 1) * 3) + 0.1 * torch.randn(48, 1, 16)
variance = data.var()
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=False)
train_res_recon_error, train_res_perplexity = [], []
model.train()
loader = torch.utils.data.DataLoader(data, batch_size=12, shuffle=True, pin_memory=False)
for i in range(24):
    batch = next(iter(loader))
    optimizer.zero_grad()
    vq_loss, recon, perplexity, flat = model(batch)
    recon_error = F.mse_loss(recon, batch) / variance
    loss = recon_error + vq_loss
    loss.backward()
    optimizer.step()
    train_res_recon_error.append(recon_error.item())
    train_res_perplexity.append(perplexity.item())
    if (i + 1) % 6 == 0:
        revived = model.vq.revive(flat)
        print("%d iterations" % (i + 1))
        print(
            "recon_error: %.3f perplexity: %.3f revived %d"
            % (sum(train_res_recon_error[-6:]) / 6, train_res_perplexity[-1], revived)
        )
print("final", digest(model, optimizer, model.vq.usage, train_res_perplexity, StraightThrough.calls))
