"""Which sources are listened to: what --notices says.

An address of a cloud is asked only where the firmware says that this is that cloud, or the user names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptd.errors import UsageError
from ckptd.notices import alibaba, appears, aws, azure, gcp, logind, slurm
from ckptd.notices.event import Source
from ckptd.notices.machine import ALIBABA, AWS, AZURE, GCP, Files, find_cloud
from ckptd.notices.plugins import find_plugins, plugin_source

AUTO, NONE = "auto", "none"
BUILT_IN = (aws.NAME, gcp.NAME, azure.NAME, alibaba.NAME, slurm.NAME, logind.NAME, f"{appears.NAME}:PATH")
_CLOUDS = {AWS: aws.NAME, GCP: gcp.NAME, AZURE: azure.NAME, ALIBABA: alibaba.NAME}
_ASKED: dict[str, Callable[[Mapping[str, str]], Sequence[Source]]] = {
    aws.NAME: aws.aws_sources,
    gcp.NAME: gcp.gcp_sources,
    azure.NAME: azure.azure_sources,
    alibaba.NAME: alibaba.alibaba_sources,
}


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
    cloud = _CLOUDS.get(find_cloud(machine), "")
    if cloud == aws.NAME and env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        cloud = ""  # so Amazon's own tools take it
    found = [cloud] if cloud else []
    if env.get(slurm.END, "").isdigit():
        found.append(slurm.NAME)
    if logind.has_logind(env, machine):
        found.append(logind.NAME)
    return found


def _make(word: str, env: Mapping[str, str], machine: Files) -> Sequence[Source]:
    name, colon, argument = word.partition(":")
    if name in _ASKED or name == logind.NAME:
        if colon:
            raise UsageError(f"--notices {word}: nothing goes behind {name}")
        return _ASKED[name](env) if name in _ASKED else [logind.logind_source(env, machine)]
    if name == slurm.NAME:
        return [slurm.slurm_source(env, argument)]
    if name == appears.NAME:
        return [appears.file_source(argument)]
    plugins = find_plugins()
    if name in plugins:
        return [plugin_source(plugins[name], argument)]
    known = [AUTO, NONE, *BUILT_IN, *sorted(plugins.keys() - {*BUILT_IN})]
    raise UsageError(f"--notices {name}: no such source; there are {', '.join(known)}")
