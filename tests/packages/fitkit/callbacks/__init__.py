import os

import torch


class Callback:
    """All hooks are optional."""


class History(Callback):
    def __init__(self, every=1):
        self.every = every
        self.losses = []

    def on_train_batch_end(self, trainer, output, batch_idx):
        self.losses.append(output)
        step = trainer.fit_loop.epoch_loop.global_step
        if step % self.every == 0:
            print(f"epoch {trainer.fit_loop.epoch} step {step} loss {output!r}")

    def on_train_epoch_end(self, trainer):
        trainer.logger.log_metrics(
            {"train": trainer.train_loss, **trainer.val_metrics}, trainer.fit_loop.epoch
        )
        print(f"epoch {trainer.fit_loop.epoch} done {trainer.train_loss!r} {trainer.val_metrics}")


class EarlyStopping(Callback):
    def __init__(self, monitor, patience=3):
        self.monitor, self.patience = monitor, patience
        self.best, self.waited = float("inf"), 0

    def on_train_epoch_end(self, trainer):
        value = trainer.val_metrics[self.monitor]
        if value < self.best:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
            trainer.should_stop = self.waited >= self.patience


class ModelCheckpoint(Callback):
    def __init__(self, folder, top=2):
        self.folder, self.top = folder, top
        self.saved = []

    def on_train_epoch_end(self, trainer):
        path = os.path.join(self.folder, f"epoch={trainer.fit_loop.epoch}.pt")
        torch.save(trainer.model.state_dict(), path)
        self.saved.append(path)
        while len(self.saved) > self.top:
            os.remove(self.saved.pop(0))
