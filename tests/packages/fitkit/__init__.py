"""A small trainer in the style of the well-known ones: a fit loop, an evaluation loop, callbacks, loggers."""

from .callbacks import Callback, EarlyStopping, History, ModelCheckpoint
from .module import Module
from .trainer import Trainer

__all__ = ["Callback", "EarlyStopping", "History", "ModelCheckpoint", "Module", "Trainer"]
