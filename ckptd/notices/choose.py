"""Which sources are listened to: what --notices says.

An address of a cloud is asked only where the firmware says that this is that cloud, or the user names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec

from ckptd.errors import UsageError
from ckptd.notices.event import Source
from ckptd.notices.machine import ALIBABA, AWS, AZURE, GCP, Files, find_cloud

AUTO, NONE = "auto", "none"
CLOUDS = {AWS: "aws", GCP: "gcp", AZURE: "azure", ALIBABA: "alibaba"}
"""The name of a cloud's source, and of its module, which has a function NAME_sources. What isn't asked is not imported:
each start of a job would wait for all of them."""
SLURM, LOGIND, FILE = "slurm", "logind", "file"
BUILT_IN = (*CLOUDS.values(), SLURM, LOGIND, f"{FILE}:PATH")


def choose(names: str, env: Mapping[str, str], machine: Files) -> list[Source]:
    """The sources of 'auto', 'none' or 'aws,slurm:5m,file:/run/leave', in that order; raises UsageError.

    More than one source may have the same name: a cloud is asked in several places at once.
    """
    words = list(dict.fromkeys(word.strip() for word in names.split(",") if word.strip()))
    if not words:
        raise UsageError(f"--notices is empty: write {AUTO}, {NONE}, or names such as aws,file:/run/leave")
    if NONE in words:
        if len(words) > 1:
            raise UsageError(f"--notices {names}: {NONE} goes with nothing else")
        return []
    chosen: dict[str, None] = {}
    for word in words:
        chosen.update(dict.fromkeys(_found(env, machine) if word == AUTO else [word]))
    return [source for word in chosen for source in _make(word, env, machine)]


def _found(env: Mapping[str, str], machine: Files) -> list[str]:
    """What 'auto' stands for here."""
    cloud = CLOUDS.get(find_cloud(machine), "")
    if cloud == CLOUDS[AWS] and env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        cloud = ""  # so Amazon's own tools take it
    found = [cloud] if cloud else []
    if env.get("SLURM_JOB_END_TIME", "").isdigit():
        found.append(SLURM)
    if _has_logind(env, machine):
        found.append(LOGIND)
    return found


def _has_logind(env: Mapping[str, str], machine: Files) -> bool:
    """Whether there is a system bus, a logind on it, and dbus-fast."""
    bus = bool(env.get("DBUS_SYSTEM_BUS_ADDRESS")) or machine.has("/run/dbus/system_bus_socket")
    return bus and machine.has("/run/systemd/seats") and find_spec("dbus_fast") is not None


def _make(word: str, env: Mapping[str, str], machine: Files) -> Sequence[Source]:
    name, colon, argument = word.partition(":")
    if colon and name in (*CLOUDS.values(), LOGIND):
        raise UsageError(f"--notices {word}: nothing goes behind {name}")
    if name in CLOUDS.values():
        sources: Callable[[Mapping[str, str]], Sequence[Source]]
        sources = getattr(import_module(f"ckptd.notices.{name}"), f"{name}_sources")
        return sources(env)
    if name == LOGIND:
        from ckptd.notices.logind import logind_source

        return [logind_source(env, machine)]
    if name == SLURM:
        from ckptd.notices.slurm import slurm_source

        return [slurm_source(env, argument)]
    if name == FILE:
        from ckptd.notices.appears import file_source

        return [file_source(argument)]
    return _plugin(name, argument)


def _plugin(name: str, argument: str) -> list[Source]:
    from ckptd.notices.plugins import find_plugins, plugin_source

    plugins = find_plugins()
    if name in plugins:
        return [plugin_source(plugins[name], argument)]
    known = [AUTO, NONE, *BUILT_IN, *sorted({*plugins} - {*BUILT_IN})]
    raise UsageError(f"--notices {name}: no such source; there are {', '.join(known)}")
