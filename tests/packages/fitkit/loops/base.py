from abc import ABC, abstractmethod


class Loop(ABC):
    """Runs ``advance`` until it is done."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.iteration = 0

    @property
    @abstractmethod
    def done(self):
        """Whether there is nothing left to do."""

    def reset(self):
        self.iteration = 0

    def on_run_start(self, *args, **kwargs):
        pass

    def on_run_end(self):
        return None

    @abstractmethod
    def advance(self, *args):
        """One iteration."""

    def run(self, *args, **kwargs):
        self.reset()
        self.on_run_start(*args, **kwargs)
        while not self.done:
            try:
                self.advance(*args, **kwargs)
                self.iteration += 1
            except StopIteration:
                break
        output = self.on_run_end()
        return output
