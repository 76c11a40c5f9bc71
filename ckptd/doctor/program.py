"""What can be said of a command before it runs: whether the agent gets in, and into what.

Sources: docs/design.md, on how the agent gets in. The interpreter puts PYTHONPATH's folders before its own, and
imports the first sitecustomize that it finds (docs.python.org, 'site'); one that is found before ckptd's keeps
ckptd's out, one behind it is run by it. sudo(8), su(1) and docker give the command another environment.
opentelemetry-instrument puts its own sitecustomize first, and that runs no other (opentelemetry-python-contrib
#2104). torchrun ends its workers within 30 s, or within --shutdown-timeout or TORCH_ELASTIC_SHUTDOWN_TIMEOUT
where torch knows them (torch/distributed/run.py, 2.13).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptd.bootstrap import bootstrap_folder
from ckptd.daemon import launch
from ckptd.daemon.names import place_key
from ckptd.daemon.places import IPC_PATH_MAX, runtime_folder
from ckptd.doctor.findings import LOSES, NOTES, WARNS, Finding
from ckptd.doctor.machine import Machine
from ckptd.doctor.notice import TORCHRUN, Notice
from ckptd.errors import CkptdError
from ckptd.settings import parse_duration

OLDEST_TORCH = (2, 4)
"""As pyproject.toml has it."""
SHUTDOWN_TORCH = (2, 13)
"""The first torch whose torchrun can be told how long a stop may take."""
_CLEANERS = {
    "sudo": "sudo ckptd run -- CMD",
    "doas": "doas ckptd run -- CMD",
    "su": "su USER -c 'ckptd run -- CMD'",
    "runuser": "runuser -u USER -- ckptd run -- CMD",
    "ssh": "ssh HOST ckptd run -- CMD",
    "docker": "docker run IMAGE ckptd run -- CMD",
    "podman": "podman run IMAGE ckptd run -- CMD",
}
"""Programs that give what they start another environment, and where ckptd belongs instead."""
_TORCHRUN_MODULES = ("torch.distributed.run", "torch.distributed.launch")
_TORCHRUN_SECONDS = 30.0
_PROBE = """
import importlib.util, json, os, re, sys
from importlib.machinery import PathFinder
loaded, hidden = sys.modules.get("sitecustomize"), PathFinder.find_spec("sitecustomize")
torch = importlib.util.find_spec("torch")
words = {}
if torch is not None and torch.origin:
    try:
        with open(os.path.join(os.path.dirname(torch.origin), "version.py")) as file:
            words = dict(re.findall(r"^(__version__|cuda)\\b[^=]*= *'([^']*)'", file.read(), re.M))
    except OSError:
        pass
print(json.dumps({
    "path": [os.path.realpath(each) for each in sys.path if each],
    "loaded": getattr(loaded, "__file__", None), "hidden": hidden.origin if hidden else None,
    "version": "%d.%d.%d" % sys.version_info[:3], "found": torch is not None, "torch": words,
}))
"""
"""Nothing is imported; what every start of that interpreter runs is run."""


@dataclass(frozen=True)
class Program:
    """A command, looked at."""

    argv: list[str]
    python: str = ""
    """The interpreter that runs it; '' if it isn't Python."""
    version: str = ""
    torch: str = ""
    cuda: str = ""
    """What torch was built for; '' for the CPU."""
    reachable: bool = False
    findings: list[Finding] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def look_at(argv: Sequence[str], machine: Machine) -> Program:
    """Look at a command; its program is not run."""
    try:
        path = launch.resolve(argv)
    except CkptdError as error:
        return Program(list(argv), findings=[Finding("command", LOSES, f"{error}")])
    name = os.path.basename(argv[0])
    clean = "-i" in argv[1:3] or "-" in argv[1:2]
    if name in _CLEANERS or (name == "env" and clean):
        text = f"{' '.join(argv[:2])}: the environment is not passed on, and the agent can't get in"
        mend = _CLEANERS.get(name, "ckptd run -- CMD, without env -i")
        return Program(list(argv), findings=[Finding("command", LOSES, text, mend)])
    found = launch.interpreter(path, argv)
    reach = launch.reach(path, argv)
    if found is None:
        return Program(list(argv), path, findings=[Finding("command", WARNS, reach.why)])
    if not reach.reachable:
        return Program(
            list(argv), found[0], findings=[Finding("command", LOSES, reach.why, _way_out(reach.why))]
        )
    facts = _probe(found[0], machine)
    torch = _version(facts.get("torch"), "__version__")
    findings = [*_sitecustomize(name, facts), *(_torch(torch, facts) if facts else [])]
    told, notices = torchrun(argv, machine.env, torch)
    return Program(
        list(argv), found[0], str(facts.get("version", "")), torch, _version(facts.get("torch"), "cuda"), True,
        [*findings, *told], notices,
    )  # fmt: skip


def _way_out(why: str) -> str:
    if "shuts the agent out" in why:
        return "ckptd run -- python train.py, without that flag"
    if "can't be saved" in why:
        return "ckptd run -- python train.py, with the program in a file"
    return "ckptd run -- python train.py, with the Python that ckptd is installed in"


def _probe(python: str, machine: Machine) -> dict[str, Any]:
    """What the interpreter finds as ckptd run would start it; {} if it doesn't say."""
    bootstrap = str(bootstrap_folder())
    path = os.pathsep.join(filter(None, [bootstrap, machine.env.get("PYTHONPATH", "")]))
    env = {key: value for key, value in machine.env.items() if not key.startswith("CKPTD_")}
    said = Machine(machine.root, {**env, "PYTHONPATH": path}).ask(python, "-c", _PROBE)
    try:
        facts = json.loads(said.splitlines()[-1]) if said else {}
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _version(words: object, key: str) -> str:
    return str(words.get(key, "")) if isinstance(words, dict) else ""


def _sitecustomize(name: str, facts: Mapping[str, Any]) -> list[Finding]:
    if name == "opentelemetry-instrument":
        text = f"{name} puts a sitecustomize of its own first, which runs no other: the agent never starts"
        line = "opentelemetry-instrument ckptd run -- CMD"
        return [Finding("sitecustomize", LOSES, text, line)]
    if not facts:
        return []
    if os.path.realpath(bootstrap_folder()) in facts.get("path", []):
        # Ours takes itself out of sys.path as the first thing.
        text = f"{facts.get('loaded') or 'another sitecustomize'} is found before ckptd's: the agent never starts"
        return [Finding("sitecustomize", LOSES, text, "take its folder from PYTHONPATH and from *.pth files")]
    if facts.get("hidden"):
        text = f"your {facts['hidden']} is run first, and the agent starts behind it"
        return [Finding("sitecustomize", NOTES, text)]
    return []


def _torch(version: str, facts: Mapping[str, Any]) -> list[Finding]:
    if not facts.get("found"):
        text = "this Python has no torch: nothing will be saved before torch is imported"
        return [Finding("torch", WARNS, text, "pip install torch")]
    known = numbers(version)
    if known and known < OLDEST_TORCH:
        wanted = ".".join(map(str, OLDEST_TORCH))
        return [
            Finding(
                "torch", LOSES, f"torch {version} is older than {wanted}", f"pip install 'torch>={wanted}'"
            )
        ]
    return []


def numbers(version: str) -> tuple[int, ...]:
    """(2, 13) of '2.13.0+cpu'; () of what is no version."""
    parts = version.split("+")[0].split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def torchrun(argv: Sequence[str], env: Mapping[str, str], torch: str) -> tuple[list[Finding], list[Notice]]:
    """How long torchrun lets its workers live behind a signal, if it is torchrun that is run."""
    words = list(argv)
    modules = {words[at + 1] for at, word in enumerate(words[:-1]) if word == "-m"}
    if os.path.basename(words[0]) != "torchrun" and not modules.intersection(_TORCHRUN_MODULES):
        return [], []
    given = _flag(words, "--shutdown-timeout", "--shutdown_timeout") or env.get(
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", ""
    )
    able = (numbers(torch) or SHUTDOWN_TORCH) >= SHUTDOWN_TORCH
    try:
        seconds = parse_duration(given) if given and able else _TORCHRUN_SECONDS
    except CkptdError:
        seconds = _TORCHRUN_SECONDS
    mend = "torchrun --shutdown-timeout {need}" if able else ""
    fact = "as it is told" if given and able else "its default"
    found = _ranks(words)
    if given and not able:
        text = f"torch {torch} doesn't know a shutdown timeout: torchrun kills its workers after 30 s all the same"
        found.append(
            Finding("torchrun", WARNS, text, f"pip install 'torch>={'.'.join(map(str, SHUTDOWN_TORCH))}'")
        )
    return found, [Notice(TORCHRUN, seconds, here=True, mend=mend, fact=fact)]


def _ranks(words: list[str]) -> list[Finding]:
    """Of more than one, a checkpoint holds the one that was first to say that it is there."""
    ranks = _flag(words, "--nproc-per-node", "--nproc_per_node") or "1"
    hosts = _flag(words, "--nnodes") or "1"
    if ranks == "1" and hosts in ("1", "1:1"):
        return []
    text = f"torchrun starts {ranks} ranks on {hosts} hosts, and jobs of several ranks can't be saved yet: one would"
    return [
        Finding(
            "ranks", LOSES, f"{text} come back, the others would start over", "torchrun --nproc-per-node 1"
        )
    ]


def _flag(words: list[str], *names: str) -> str:
    for at, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name in names:
            return value if sign else (words[at + 1] if at + 1 < len(words) else "")
    return ""


def socket_findings(job: str, store: Path) -> list[Finding]:
    """Whether the job's socket has a place. ``job``: its id."""
    try:
        path = runtime_folder() / f"{place_key(job, Path(os.path.abspath(store)))}.sock"
    except CkptdError as error:
        return [Finding("socket", LOSES, str(error))]
    length = len(os.fsencode(path))
    if length <= IPC_PATH_MAX:
        return []
    text = (
        f"the socket's path {path} has {length} bytes, {IPC_PATH_MAX} are possible: a folder in /tmp is taken"
    )
    return [Finding("socket", NOTES, text, "XDG_RUNTIME_DIR=/run/user/$UID")]
