"""A user's script: the model is theirs, the loops are the library's."""

import hashlib

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fitkit


class Classifier(fitkit.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x + 0.1 * torch.randn_like(x)), y)
        self.log("train_loss", loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("val_loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.8)]


def loaders():
    x = torch.randn(240, 8)
    y = (x.sum(1) > 0).long() + (x[:, 0] > 1).long()
    train, val = TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])
    return DataLoader(train, 16, shuffle=True), DataLoader(val, 8)


trainer = fitkit.Trainer(
    max_epochs=4,
    callbacks=[fitkit.History(), fitkit.EarlyStopping("val_loss"), fitkit.ModelCheckpoint(".")],
    accumulate_grad_batches=2,
    gradient_clip_val=1.0,
    seed=7,
)
train_loader, val_loader = loaders()
model = Classifier()
print("fit gave", repr(trainer.fit(model, train_loader, val_loader)))

weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
averages = b"".join(state["exp_avg"].numpy().tobytes() for state in trainer.optimizers[0].state.values())
print(
    "end",
    hashlib.sha256(weights + averages).hexdigest(),
    torch.get_rng_state().sum().item(),
    trainer.profiled,
)
