"""The arrows of docs/design.md, held over the sources themselves."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("ckptd", "ckptd_agent")
LONGEST = 500

LEAVES = ["ckptd.errors", "ckptd.states", "ckptd.protocol", "ckptd.settings"]
"""These import nothing of the rest but errors."""

AGENT_MAY = [
    "ckptd.protocol",
    "ckptd.errors",
    "ckptd.memory",
    "ckptd.store.manifest",
    "ckptd.store.packed",
    "ckptd.store.reader",
    "ckptd.store.extents",
    "ckptd.store.hashing",
    "ckptd.store.resuming",
    "ckptd.store.spilled",
    "ckptd.store.tensorfile",
]


def sources() -> dict[str, Path]:
    """Module name -> file, of both packages."""
    found = {}
    for folder in (ROOT, ROOT / "agent"):
        for package in OURS:
            for path in sorted((folder / package).rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def imports(text: str, module: str = "", is_package: bool = False) -> set[str]:
    """Full names of all that the text imports, inside functions and for types too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".") if is_package else module.split(".")[:-1]
            base = ".".join([*above[: len(above) - node.level + 1]] if node.level else [])
            prefix = ".".join(part for part in (base, node.module or "") if part)
            names.update(f"{prefix}.{alias.name}" for alias in node.names)
    return names


@cache
def imported(module: str) -> set[str]:
    path = SOURCES[module]
    return imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")


def within(name: str, allowed: list[str]) -> bool:
    return any(name == item or name.startswith(item + ".") for item in allowed)


def strangers(prefix: str, watched: tuple[str, ...], allowed: list[str]) -> list[str]:
    """Imports of ``watched`` packages by modules under ``prefix`` that are not ``allowed``."""
    return [
        f"{module} imports {name}"
        for module in SOURCES
        if within(module, [prefix])
        for name in sorted(imported(module))
        if within(name, list(watched)) and not within(name, allowed)
    ]


def test_sources_are_found():
    assert "ckptd.errors" in SOURCES
    assert any(name.startswith("ckptd_agent") for name in SOURCES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("def f():\n    from ckptd.store import reader", {"ckptd.store.reader"}),
        ("from . import states", {"ckptd.daemon.states"}),
        ("from ..errors import CkptdError", {"ckptd.errors.CkptdError"}),
    ],
)
def test_imports_are_read(text, found):
    assert imports(text, "ckptd.daemon.server") == found


def test_the_supervisor_imports_neither_torch_nor_the_agent():
    found = strangers("ckptd", ("torch", "ckptd_agent", "numpy"), [])
    assert [each for each in found if not each.startswith("ckptd.check.")] == []


def test_the_check_asks_the_agents_own_rewriting_and_nothing_else_of_it():
    assert strangers("ckptd.check", ("torch", "ckptd_agent", "numpy"), ["ckptd_agent.source"]) == []


def test_the_doctor_asks_no_address():
    """Where a machine is, is told from files; only a remote that the user names is asked, by ckptd.remote."""
    assert strangers("ckptd.doctor", ("socket", "http", "urllib", "asyncio", "ssl"), []) == []
    assert strangers("ckptd.doctor", ("ckptd.notices",), ["ckptd.notices.machine"]) == []


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_nothing_of_the_rest(leaf):
    assert leaf in SOURCES
    assert strangers(leaf, OURS, ["ckptd.errors"]) == []


def test_states_import_nothing_at_all():
    assert {name for name in imported("ckptd.states") if not name.startswith("__future__")} <= {
        "enum.Enum",
        "enum.unique",
        "enum.StrEnum",
        "collections.abc.Mapping",
    }


def test_the_segment_imports_only_errors():
    assert strangers("ckptd.memory", OURS, ["ckptd.errors", "ckptd.memory"]) == []


def test_the_store_imports_only_errors_and_memory():
    assert strangers("ckptd.store", OURS, ["ckptd.errors", "ckptd.memory", "ckptd.store"]) == []


def test_notices_import_only_errors_and_settings():
    """A source tells what it hears and decides nothing: nothing of what follows is in its reach."""
    assert strangers("ckptd.notices", OURS, ["ckptd.errors", "ckptd.settings", "ckptd.notices"]) == []


def test_a_jobs_supervisor_knows_of_no_daemon_and_neither_of_a_terminal():
    """A job goes on whatever becomes of the daemon: nothing of it is in reach."""
    above = ("ckptd.host", "ckptd.drill", "ckptd.cli", "ckptd.doctor", "ckptd.prove")
    assert strangers("ckptd.daemon", above, []) == []
    assert strangers("ckptd.host", ("ckptd.drill", "ckptd.cli", "ckptd.doctor", "ckptd.prove"), []) == []


def test_the_remote_imports_only_errors_and_the_store():
    assert strangers("ckptd.remote", OURS, ["ckptd.errors", "ckptd.store", "ckptd.remote"]) == []


def test_the_agent_imports_of_ckptd_only_the_contracts():
    found = strangers("ckptd_agent", OURS, [*AGENT_MAY, "ckptd_agent"])
    # The bare package comes along with any of the above; it imports nothing itself.
    assert [item for item in found if not item.endswith(" imports ckptd")] == []
    assert imported("ckptd") == set()


def test_what_the_agent_imports_of_the_store_drags_in_nothing_of_the_supervisor():
    seen: set[str] = set()
    todo = [name for name in AGENT_MAY if name in SOURCES]
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += [name for name in SOURCES if any(within(item, [name]) for item in imported(module))]
    assert (
        sorted(name for name in seen if within(name, ["ckptd.daemon", "ckptd.cli", "ckptd.settings"])) == []
    )


@pytest.mark.parametrize("folder", ["ckptd", "agent", "scripts", "tests", "examples"])
def test_no_file_is_longer_than_a_reader_can_hold(folder):
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert long == {}


def test_no_module_is_named_for_nothing():
    vague = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
    assert [name for name in SOURCES if vague & set(name.split("."))] == []


def test_the_bootstrap_is_short_and_standard_library_only():
    text = (ROOT / "agent" / "bootstrap" / "sitecustomize.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    tree = ast.parse(text)
    at_once = {
        alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    assert not at_once & {"ckptd", "ckptd_agent", "torch", "zmq", "msgpack"}
