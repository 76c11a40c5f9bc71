import contextlib
import random

import torch

from .hooks import call_and_handle_interrupt, call_callback_hooks
from .loggers import CSVLogger
from .loops import FitLoop
from .results import ResultCollection

_running = []
"""Trainers at work."""


class Trainer:
    def __init__(
        self,
        *,
        max_epochs=1,
        max_steps=-1,
        callbacks=(),
        accumulate_grad_batches=1,
        gradient_clip_val=0.0,
        folder="logs",
        seed=None,
    ):
        if seed is not None:
            random.seed(seed)
            torch.manual_seed(seed)
        self.max_epochs, self.max_steps = max_epochs, max_steps
        self.callbacks = list(callbacks)
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        self.logger = CSVLogger(folder)
        self.results = ResultCollection()
        self.model = None
        self.optimizers, self.schedulers = [], []
        self.should_stop = self.interrupted = False
        self.train_loss, self.val_metrics = None, {}
        self.profiled = {}
        self.fit_loop = FitLoop(self)

    @contextlib.contextmanager
    def profile(self, name):
        self.profiled[name] = self.profiled.get(name, 0) + 1
        yield

    def fit(self, model, train_loader, val_loader=None):
        self.model = model
        model.trainer = self
        return call_and_handle_interrupt(self, self._fit_impl, train_loader, val_loader=val_loader)

    def _fit_impl(self, train_loader, val_loader):
        _running.append(self)
        self._set_up()
        call_callback_hooks(self, "on_fit_start")
        self._run_stage(train_loader, val_loader)
        call_callback_hooks(self, "on_fit_end")
        _running.remove(self)
        return self.train_loss

    def _set_up(self):
        configured = self.model.configure_optimizers()
        self.optimizers, self.schedulers = configured if isinstance(configured, tuple) else ([configured], [])

    def _run_stage(self, train_loader, val_loader):
        with torch.autograd.set_detect_anomaly(False):
            self.fit_loop.run(train_loader, val_loader=val_loader)
