from torch import nn


class Module(nn.Module):
    """What users subclass: the model together with how it is trained."""

    trainer = None

    def training_step(self, batch, batch_idx):
        raise NotImplementedError

    def validation_step(self, batch, batch_idx):
        """Optional."""

    def configure_optimizers(self):
        raise NotImplementedError

    def on_train_epoch_end(self):
        """Optional."""

    def log(self, name, value):
        self.trainer.results.update(name, float(value))
