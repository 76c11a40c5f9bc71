"""How far tensors of two checkpoints are apart: one JSON request on stdin, one JSON line for each on stdout."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from ckptd.errors import CkptdError
from ckptd.store.reader import OpenCheckpoint
from ckptd_agent.offline.views import view_of

CHUNK = 1 << 22
"""Elements that are widened at a time."""


def main() -> int:
    request = json.load(sys.stdin)
    with OpenCheckpoint(Path(request["a"])) as a, OpenCheckpoint(Path(request["b"])) as b:
        for pair in request["pairs"]:
            try:
                found = compare(view_of(a, pair["a"]), view_of(b, pair["b"]))
            except (ValueError, RuntimeError, CkptdError) as error:
                found = {"error": f"{error}"}
            print(json.dumps({"name": pair["name"], **found}), flush=True)
    return 0


def compare(a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
    """Norm of the difference, norm of ``a``, cosine of the angle between them, elements that differ."""
    if a.shape != b.shape:
        return {"error": "their shapes differ"}
    difference = left = right = dot = 0.0
    changed = 0
    a, b = a.reshape(-1), b.reshape(-1)
    for start in range(0, a.numel(), CHUNK):
        one, other = a[start : start + CHUNK], b[start : start + CHUNK]
        changed += int((~((one == other) | ((one != one) & (other != other)))).sum())
        x, y = _wide(one), _wide(other)
        difference += float((x - y).abs().square().sum())
        left += float(x.abs().square().sum())
        right += float(y.abs().square().sum())
        dot += float((x * y.conj()).real.sum() if x.is_complex() else (x * y).sum())
    scale = math.sqrt(left) * math.sqrt(right)
    return {
        "norm": _finite(math.sqrt(difference)),
        "norm_before": _finite(math.sqrt(left)),
        "cosine": _finite(dot / scale) if scale > 0 else None,
        "elements": a.numel(),
        "elements_changed": changed,
    }


def _wide(part: torch.Tensor) -> torch.Tensor:
    return part.to(torch.complex128 if part.is_complex() else torch.float64)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
