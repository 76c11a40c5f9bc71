"""What of a program will be carried over: optimizers, loaders, random generators, files and so on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ckptd.check.modules import Module
from ckptd.check.names import last
from ckptd.check.training import Program


@dataclass(frozen=True)
class Carried:
    """One thing whose state goes over an interruption."""

    kind: str
    what: str
    path: str
    line: int


GENERATORS = (("random.", "python's"), ("numpy.random.", "numpy's"), ("torch.", "torch's"))
SEEDS = {"seed", "manual_seed", "manual_seed_all", "RandomState", "default_rng", "Generator", "Random"}
EXACT = {
    "torch.utils.data.DataLoader": "loader", "torch.amp.GradScaler": "scaler", "torch.cuda.amp.GradScaler": "scaler",
    "torch.utils.tensorboard.SummaryWriter": "writer", "collections.deque": "container",
    "torch.optim.swa_utils.AveragedModel": "average", "copy.deepcopy": "copy", "logging.FileHandler": "file",
}  # fmt: skip


def list_carried(modules: list[Module], program: Program) -> list[Carried]:
    """In the order of modules and lines."""
    found: dict[tuple[str, int, str], Carried] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            for each in _of(node, module, program):
                found.setdefault((each.path, each.line, each.what), each)
    return sorted(found.values(), key=lambda each: (each.path != modules[0].path, each.path, each.line))


def _of(node: ast.AST, module: Module, program: Program) -> Iterator[Carried]:
    names = program.names[module.path]
    if isinstance(node, ast.ClassDef):
        bases = {names.dotted(base) for base in node.bases}
        if bases & {"torch.nn.Module", "torch.nn.Sequential"} or any(
            each.endswith("Module") for each in bases
        ):
            yield Carried("model", node.name, module.path, node.lineno)
        return
    if not isinstance(node, ast.Call):
        return
    name = names.dotted(node.func)
    short = name.rpartition(".")[2]
    if name in EXACT:
        yield Carried(EXACT[name], f"{short}{_workers(node)}", module.path, node.lineno)
    elif name.startswith("torch.optim.lr_scheduler."):
        yield Carried("scheduler", short, module.path, node.lineno)
    elif name.startswith("torch.optim.") and short[:1].isupper():
        yield Carried("optimizer", short, module.path, node.lineno)
    elif short in SEEDS:
        whose = next((whose for start, whose in GENERATORS if name.startswith(start)), "")
        if whose:
            yield Carried("random", f"{whose} generator", module.path, node.lineno)
    elif name in ("open", "io.open") and (mode := _mode(node)):
        yield Carried("file", f"{_file(node)} (mode {mode})", module.path, node.lineno)


def _workers(call: ast.Call) -> str:
    value = next((each.value for each in call.keywords if each.arg == "num_workers"), None)
    if value is None or last(call.func) != "DataLoader":
        return ""
    return f" with {ast.unparse(value)} workers"


def _mode(call: ast.Call) -> str:
    """The mode of a file that is opened for writing, '' for others."""
    value = next((each.value for each in call.keywords if each.arg == "mode"), None)
    value = value or (call.args[1] if len(call.args) > 1 else None)
    mode = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    return mode if any(letter in mode for letter in "wax+") else ""


def _file(call: ast.Call) -> str:
    return ast.unparse(call.args[0]) if call.args else "a file"
