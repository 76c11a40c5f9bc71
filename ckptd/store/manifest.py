"""The manifest: the JSON file that makes a folder a checkpoint. See docs/format.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
"""Version of the store's format. A reader refuses a larger one."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint."""

    name: str
    nbytes: int
    hash: str
    """'ALGORITHM:HEX' over the whole file."""


@dataclass(frozen=True)
class Manifest:
    """What is in a checkpoint and where it comes from. ``facts`` come from the agent as they are."""

    format: int
    id: str
    """8 hex digits."""
    job: str
    """8 hex digits."""
    name: str
    step: int
    created: float
    """Unix seconds."""
    reason: str
    """As in protocol.Dump."""
    attempt: int
    """How many times the job had been started when this was taken, from 1."""
    host: str
    files: list[FileEntry]
    facts: dict[str, Any] = field(default_factory=dict)
    """From the agent: argv, cwd, script, python, torch, sources {path: sha256 hex}, hashseed, threads,
    loss, lr, anchors, tensors, tensor_bytes, nodes, where."""
