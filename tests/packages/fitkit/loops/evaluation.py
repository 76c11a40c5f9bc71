import functools

import torch

from .. import hooks


def no_grad_context(function):
    @functools.wraps(function)
    def decorated(self, *args, **kwargs):
        with torch.inference_mode():
            return function(self, *args, **kwargs)

    return decorated


class EvaluationLoop:
    def __init__(self, trainer):
        self.trainer = trainer

    @no_grad_context
    def run(self, loader):
        was_training = self.trainer.model.training
        self.trainer.model.eval()
        self.trainer.results.reset()
        try:
            for batch_idx, batch in enumerate(loader):
                self._evaluation_step(batch, batch_idx)
            return self.trainer.results.metrics()
        finally:
            self.trainer.model.train(was_training)

    def _evaluation_step(self, batch, batch_idx):
        output = self.trainer.model.validation_step(batch, batch_idx)
        hooks.call_callback_hooks(self.trainer, "on_validation_batch_end", output, batch_idx)
