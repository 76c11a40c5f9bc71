"""Where this machine is: in which cloud, in a container or not. Told from files; no address is asked.

Which cloud: ckptd.notices.machine. EC2's hop limit of 1: docs.aws.amazon.com, 'Use the Instance Metadata Service';
aws-node-termination-handler#406. Process 1 of a container is the only one that Kubernetes and Docker signal:
kubernetes.io, 'Pod Lifecycle'.
"""

from __future__ import annotations

from dataclasses import dataclass

from ckptd.doctor.findings import WARNS, Finding
from ckptd.doctor.machine import Machine
from ckptd.notices.machine import ALIBABA, AWS, AZURE, GCP, find_cloud

__all__ = ["ALIBABA", "AWS", "AZURE", "GCP", "Place", "find_place", "place_findings"]

_DMI = "/sys/class/dmi/id"
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox", "zsh"})
_CONTAINERS = ("kubepods", "docker", "containerd", "libpod", "crio", "lxc")


@dataclass(frozen=True)
class Place:
    """Where we are."""

    cloud: str = ""
    """'AWS', 'GCP', 'Azure', 'Alibaba'; '' where the firmware names none of them."""
    instance: str = ""
    """AWS's id of this machine, where the firmware has it."""
    container: str = ""
    """How it can be told that this is a container; '' if it can't."""
    kubernetes: bool = False
    bridged: bool = False
    """A network interface here is one end of a pair: packets to the metadata service take one hop more."""
    first: str = ""
    """Name of process 1."""


def find_place(machine: Machine) -> Place:
    """Look where we are."""
    kubernetes = bool(machine.env.get("KUBERNETES_SERVICE_HOST"))
    cloud = find_cloud(machine)
    tag = machine.read(f"{_DMI}/board_asset_tag")
    return Place(
        cloud=cloud,
        instance=tag if cloud == AWS and tag.startswith("i-") else "",
        container=_container(machine, kubernetes),
        kubernetes=kubernetes,
        bridged=_bridged(machine),
        first=machine.read("/proc/1/comm"),
    )


def _container(machine: Machine, kubernetes: bool) -> str:
    if kubernetes:
        return "KUBERNETES_SERVICE_HOST is set"
    for name in ("/.dockerenv", "/run/.containerenv"):
        if machine.has(name):
            return f"{name} is there"
    if machine.env.get("container"):
        return f"container={machine.env['container']} is set"
    groups = machine.read("/proc/1/cgroup")
    return next((f"process 1 is in a cgroup of {name}" for name in _CONTAINERS if name in groups), "")


def _bridged(machine: Machine) -> bool:
    """A pair's ends name each other in iflink; the machine's own interfaces name themselves."""
    net = "/sys/class/net"
    return any(
        machine.read(f"{net}/{name}/iflink") != machine.read(f"{net}/{name}/ifindex")
        for name in machine.names(net)
        if name != "lo"
    )


def place_findings(place: Place) -> list[Finding]:
    """What stands in the way because of where we are."""
    found = []
    if place.container and place.first in _SHELLS:
        found.append(
            Finding(
                "process 1", WARNS, f"this is a container ({place.container}) whose process 1 is {place.first}: only "
                "it gets the signal to end, and a shell doesn't pass it on to what it runs",
                "exec ckptd run -- CMD",
            )
        )  # fmt: skip
    if place.container and place.cloud == AWS and place.bridged:
        found.append(
            Finding(
                "metadata hop limit", WARNS, f"this is a container ({place.container}) behind a bridge on AWS: with a "
                "hop limit of 1, EC2's default, no answer of the metadata service reaches it, and no spot notice",
                "aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2 --http-endpoint enabled "
                f"--instance-id {place.instance or 'INSTANCE'}",
            )
        )  # fmt: skip
    return found
