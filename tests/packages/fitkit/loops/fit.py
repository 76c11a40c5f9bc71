from fitkit.data import PrefetchingFetcher

from ..hooks import call_callback_hooks, call_module_hook
from .base import Loop
from .evaluation import EvaluationLoop
from .optimization import OptimizationLoop


class TrainingEpochLoop(Loop):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.optimization = OptimizationLoop(trainer)
        self.last = False
        self.global_step = 0
        self.outputs = []

    @property
    def done(self):
        return self.last or 0 < self.trainer.max_steps <= self.global_step

    def reset(self):
        super().reset()
        self.last = False
        self.outputs = []

    def advance(self, fetcher):
        batch, batch_idx, self.last = next(fetcher)
        call_callback_hooks(self.trainer, "on_train_batch_start", batch, batch_idx)
        with self.trainer.profile("run_training_batch"):
            output = self.optimization.run(batch, batch_idx)
        self.global_step += 1
        self.outputs.append(output)
        call_callback_hooks(self.trainer, "on_train_batch_end", output, batch_idx)

    def on_run_end(self):
        outputs, self.outputs = self.outputs, []
        return outputs


class FitLoop(Loop):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.epoch_loop = TrainingEpochLoop(trainer)
        self.evaluation = EvaluationLoop(trainer)
        self.epoch = 0

    @property
    def done(self):
        reached = 0 < self.trainer.max_steps <= self.epoch_loop.global_step
        return self.trainer.should_stop or reached or self.epoch >= self.trainer.max_epochs

    def advance(self, loader, val_loader=None):
        fetcher = PrefetchingFetcher(loader)
        iter(fetcher)
        self.trainer.model.train()
        call_callback_hooks(self.trainer, "on_train_epoch_start")
        outputs = self.epoch_loop.run(fetcher)
        self.trainer.train_loss = sum(outputs) / max(len(outputs), 1)
        call_module_hook(self.trainer, "on_train_epoch_end")
        if val_loader is not None:
            self.trainer.val_metrics = self.evaluation.run(val_loader)
        for scheduler in self.trainer.schedulers:
            scheduler.step()
        call_callback_hooks(self.trainer, "on_train_epoch_end")
        self.epoch += 1
