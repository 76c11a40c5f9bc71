#!/usr/bin/env python3
"""Makes agent/ckptd_agent/native.py of agent/native/shield.c: needs gcc and aarch64-linux-gnu-gcc with binutils."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "agent" / "native" / "shield.c"
TARGET = ROOT / "agent" / "ckptd_agent" / "native.py"
TOOLS = {"x86_64": ("", ["-fcf-protection=branch"]), "aarch64": ("aarch64-linux-gnu-", ["-mcmodel=tiny"])}
FLAGS = [
    "-Os", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-ffreestanding", "-fPIC", "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-mgeneral-regs-only",
    "-fno-tree-loop-distribute-patterns", "-c",
]  # fmt: skip
LAYOUT = """
SECTIONS {
    . = 0;
    .text : { *(.text.entry) *(.text) *(.text.slot) }
    /DISCARD/ : { *(.comment) *(.note*) *(.eh_frame*) }
}
"""
"""The entry first, the slot for the address of the data last."""
WIDTH = 100


def build(machine: str) -> bytes:
    """The code for a machine."""
    prefix, more = TOOLS[machine]
    with tempfile.TemporaryDirectory() as name:
        made, linked, code = (Path(name) / each for each in ("shield.o", "shield.elf", "shield.bin"))
        script = Path(name) / "layout"
        script.write_text(LAYOUT)
        for command in (
            [f"{prefix}gcc", *FLAGS, *more, str(SOURCE), "-o", str(made)],
            [f"{prefix}ld", "-T", str(script), "-e", "0", "--fatal-warnings", str(made), "-o", str(linked)],
            [f"{prefix}objcopy", "-O", "binary", "-j", ".text", str(linked), str(code)],
        ):
            subprocess.run(command, check=True)
        held = subprocess.run(
            [f"{prefix}size", "-A", str(linked)], check=True, capture_output=True, text=True
        ).stdout
        rows = (line.split() for line in held.splitlines())
        sections = [row[0] for row in rows if len(row) == 3 and row[0][0] == "." and row[1] != "0"]
        if sections != [".text"]:
            raise SystemExit(f"{machine}: there is more than code: {sections}")
        return code.read_bytes()


def written() -> str:
    """The text of the module."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    lines = [
        '"""Machine code of agent/native/shield.c, made by scripts/shield.py; the last 8 bytes take an address."""',
        "",
        "from __future__ import annotations",
        "",
        f'SOURCE = "{digest}"',
        '"""SHA-256 of the source."""',
        "CODE = {",
    ]
    for machine in TOOLS:
        text = build(machine).hex()
        lines.append(f'    "{machine}": bytes.fromhex(')
        lines += [f'        "{text[at : at + WIDTH]}"' for at in range(0, len(text), WIDTH)]
        lines.append("    ),")
    return "\n".join([*lines, "}", '"""By os.uname().machine."""', ""])


if __name__ == "__main__":
    TARGET.write_text(written())
