"""ckptd: a transparent process-level checkpoint daemon for machine-learning training."""

__version__ = "0.1.0"
