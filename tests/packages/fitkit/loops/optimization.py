import torch


class OptimizationLoop:
    """One batch through every optimizer, with accumulation of gradients."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.accumulated = 0

    def run(self, batch, batch_idx):
        total = 0.0
        for optimizer_idx, optimizer in enumerate(self.trainer.optimizers):
            total += self._run_optimization(batch, batch_idx, optimizer_idx, optimizer)
        return total

    def _run_optimization(self, batch, batch_idx, optimizer_idx, optimizer):
        closure = self._make_closure(batch, batch_idx)
        self.accumulated += 1
        if self.accumulated % self.trainer.accumulate_grad_batches:
            return closure().item()
        loss = optimizer.step(closure)
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def _make_closure(self, batch, batch_idx):
        def closure():
            loss = self.trainer.model.training_step(batch, batch_idx)
            (loss / self.trainer.accumulate_grad_batches).backward()
            if self.trainer.gradient_clip_val:
                torch.nn.utils.clip_grad_norm_(
                    self.trainer.model.parameters(), self.trainer.gradient_clip_val
                )
            return loss

        return closure
