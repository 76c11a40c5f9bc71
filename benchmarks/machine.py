"""What a result was measured on and with, and where it is kept. Names no host."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"


def describe(folder: Path | None = None) -> dict[str, Any]:
    """Cores, processor, memory in GiB, versions and the day; the file system of a folder."""
    about: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _after_colon("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "torch": version("torch"),
        "ckptd": version("ckptd"),
    }
    if folder is not None:
        about["file_system"] = _file_system(folder)
        try:
            about["safetensors"] = version("safetensors")
        except PackageNotFoundError:
            about["safetensors"] = ""
    return about


def keep(name: str, result: dict[str, Any]) -> Path:
    """Write a result, with what it was measured on, to ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def deliver(
    name: str,
    result: dict[str, Any],
    show: Callable[[], None],
    *,
    as_json: bool,
    kept: bool,
    draw: Callable[[dict[str, Any]], object] | None = None,
) -> None:
    """What each benchmark does with its result: keep it (and ``draw`` it), and print it, by ``show`` or as JSON."""
    if kept:
        keep(name, result)
        if draw is not None:
            draw(result)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        show()


def _file_system(folder: Path) -> str:
    """The kind of the mount that holds a folder, such as ext4."""
    found, longest = "", -1
    for each in psutil.disk_partitions(all=True):
        if folder.resolve().is_relative_to(each.mountpoint) and len(each.mountpoint) > longest:
            found, longest = each.fstype, len(each.mountpoint)
    return found


def _after_colon(path: str, word: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(word):
                return line.partition(":")[2].strip()
    return ""
