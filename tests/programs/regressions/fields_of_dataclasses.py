"""Loops over what describes a class: fields of a dataclass with their read-only metadata, its signature, its own dict."""

import argparse
import inspect
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import torch


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    steps: int = 2
    name: str = field(default="x", metadata={"help": "what it is called"})

    @classmethod
    def from_arguments(cls, given):
        parser = argparse.ArgumentParser()
        for each in fields(cls):
            help_text = each.metadata.get("help", "none")
            parser.add_argument(
                f"--{each.name}", type=type(each.default), default=each.default, help=help_text
            )
            print(each.name, help_text)
        return cls(**vars(parser.parse_args(given)))


config = Config.from_arguments(["--steps", "3"])
shown = MappingProxyType({"seen": []})
methods = vars(Config)
for name, parameter in inspect.signature(Config).parameters.items():
    shown["seen"].append((name, parameter.default, name in methods))
    print(shown, torch.rand(1).item(), config)
