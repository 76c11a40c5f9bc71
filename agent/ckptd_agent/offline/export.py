"""Writes a checkpoint's tensors in a format that others read: a JSON request on stdin, JSON lines on stdout."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from ckptd.errors import CkptdError
from ckptd.store.reader import OpenCheckpoint
from ckptd_agent.offline.views import view_of


def main() -> int:
    """Make the file or folder that the request names; what is already there is never touched."""
    request = json.load(sys.stdin)
    left: dict[str, str] = {}
    made: dict[str, torch.Tensor] = {}
    os.umask(0o077)
    with OpenCheckpoint(Path(request["checkpoint"])) as opened:
        for name, spec in request["tensors"].items():
            try:
                made[name] = view_of(opened, spec)
            except (ValueError, RuntimeError, CkptdError) as error:
                left[name] = str(error)
            print(json.dumps({"done": spec["nbytes"]}), flush=True)
    {"torch": save_torch, "dcp": save_dcp, "safetensors": save_safetensors}[request["format"]](request, made)
    print(json.dumps({"tensors": len(made), "left_out": left}), flush=True)
    return 0


def save_torch(request: dict[str, Any], made: dict[str, torch.Tensor]) -> None:
    """What torch.load reads with weights_only: the program's variables, modules and optimizers as state dicts."""
    torch.save(_filled(request["tree"], made), request["to"])


def save_dcp(request: dict[str, Any], made: dict[str, torch.Tensor]) -> None:
    """A folder that torch.distributed.checkpoint reads."""
    import torch.distributed.checkpoint as dcp

    dcp.save(dict(made), checkpoint_id=request["to"], no_dist=True)  # type: ignore[attr-defined]


def save_safetensors(request: dict[str, Any], made: dict[str, torch.Tensor]) -> None:
    """One safetensors file, written without the package of that name."""
    from ckptd.memory.segment import ITEM_BYTES, arrange
    from ckptd.store.tensorfile import make_head
    from ckptd_agent.state.tensors import DTYPE_NAMES

    names = {name: DTYPE_NAMES.get(each.dtype, "") for name, each in made.items()}
    known = [(name, names[name], made[name].nbytes) for name in made if names[name] in ITEM_BYTES]
    tensors = arrange(known)
    shapes = {name: list(made[name].shape) for name, _, _ in known}
    with open(request["to"], "xb") as file:
        file.write(make_head(tensors, shapes=shapes, metadata=request["metadata"]))
        for tensor in tensors:
            flat = made[tensor.name].reshape(-1).view(torch.uint8)
            file.write(flat.numpy().data)


def _filled(tree: Any, made: dict[str, torch.Tensor]) -> Any:
    """The request's tree, with tensors in the places that name them; what was left out is None."""
    if isinstance(tree, dict):
        if set(tree) == {"$tensor"}:
            return made.get(tree["$tensor"])
        if set(tree) == {"$pairs"}:
            return {key: _filled(value, made) for key, value in tree["$pairs"]}
        if set(tree) == {"$tuple"}:
            return tuple(_filled(each, made) for each in tree["$tuple"])
        return {key: _filled(value, made) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(each, made) for each in tree]
    return tree


if __name__ == "__main__":
    sys.exit(main())
