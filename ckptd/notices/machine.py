"""The machine as its files show it, and which cloud it is in: told by the firmware, without asking an address.

The clouds write their names into the firmware's tables (/sys/class/dmi/id): AWS 'Amazon EC2' as sys_vendor
(older, Xen: 'amazon' in bios_version), GCP 'Google Compute Engine' as product_name, Azure a chassis_asset_tag
that is the same on all its machines (cloud-init, DataSourceAzure.py), Alibaba 'Alibaba Cloud' as sys_vendor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AWS, GCP, AZURE, ALIBABA = "AWS", "GCP", "Azure", "Alibaba"
LONGEST = 1 << 20
"""Bytes that are read of a file."""
_DMI = "/sys/class/dmi/id"
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"


@dataclass(frozen=True)
class Files:
    """Where /proc, /sys, /run and so on are looked for."""

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """Where an absolute path is, below ``root``."""
        return self.root / name.lstrip("/")

    def has(self, name: str) -> bool:
        """Whether there is something at an absolute path."""
        return self.path(name).exists()

    def read(self, name: str) -> str:
        """The text of a file without blanks around it; '' if it can't be read."""
        try:
            with open(self.path(name), "rb") as file:
                return file.read(LONGEST).decode("utf-8", "replace").strip().strip("\0")
        except OSError:
            return ""


def find_cloud(machine: Files) -> str:
    """AWS, GCP, AZURE or ALIBABA; '' where the firmware names none of them."""
    vendor = machine.read(f"{_DMI}/sys_vendor")
    if vendor.startswith("Amazon") or "amazon" in machine.read(f"{_DMI}/bios_version"):
        return AWS
    if machine.read(f"{_DMI}/product_name").startswith("Google"):
        return GCP
    if machine.read(f"{_DMI}/chassis_asset_tag") == _AZURE_TAG:
        return AZURE
    return ALIBABA if vendor.startswith("Alibaba") else ""
