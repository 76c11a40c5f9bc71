"""What the agent knows of the program for the manifest."""

from __future__ import annotations

import math
import os
import platform
import sys
from typing import Any

import torch

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.document import Document
from ckptd_agent.loops import events
from ckptd_agent.source import table
from ckptd_agent.state import trackers


def collect(capture: Capture, document: Document) -> dict[str, Any]:
    """Facts about the program, its place and what was captured; plain data for JSON."""
    loss = events.mean_loss()
    events.look()
    return {
        "step": events.steps(),
        "stepped": events.stepped,
        "argv": list(sys.argv),
        "orig_argv": list(sys.orig_argv),
        "cwd": os.getcwd(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sources": {source.path: source.sha256 for source in table.SOURCES.values()},
        "hashseed": os.environ.get("PYTHONHASHSEED", ""),
        "threads": torch.get_num_threads(),
        "loss": loss if loss is not None and math.isfinite(loss) else None,
        "loss_mean": events.running_loss(),
        "lr": learning_rates(),
        "step_seconds": events.step_seconds,
        "anchors": capture.anchors,
        "tensors": len(capture.storages),
        "nodes": len(capture.nodes),
        "where": _where(document),
        "trackers": trackers.environment(),
    }


def learning_rates() -> list[float]:
    """The rates of all optimizers that have made a step."""
    groups = [group for each in events.optimizers for group in each.param_groups]
    return [float(group["lr"]) for group in groups if "lr" in group][:64]


def _where(document: Document) -> str:
    loops = [loop for place in document["places"] for loop in place["loops"]]
    return ", ".join(f"{os.path.basename(loop['where'])} iteration {loop['count']}" for loop in loops)
