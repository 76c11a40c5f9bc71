"""Capture and restore of plain Python data, beside pickle protocol 5 on the same data in the same run.

    python benchmarks/capture.py [--size 1.0] [--rounds 3] [--only NAME] [--growth] [--json]

Capture is what the main thread does while training stands still: the walk, the packing of the graph, the
copy into the segment. Restore is what lays it over nothing: unpacking, matching, making, filling.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from typing import Any

from plain import SETS, measure


def main() -> None:
    """Print one line for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=float, default=1.0, help="of a million tuples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=sorted(SETS))
    parser.add_argument("--growth", action="store_true", help="also at a tenth of the size: how it grows")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = int(options.size * 1_000_000)
    rows = []
    if not options.json:
        print(
            f"{'data':16} {'pickle':>8} {'capture':>8} {'ratio':>6} {'loads':>8} {'restore':>8} {'ratio':>6}"
        )
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        os.environ["CKPTD_SEGMENTS"] = folder
        for name in options.only or SETS:
            random.seed(0)
            row: dict[str, Any] = {"data": name, "size": size, **measure(SETS[name](size), options.rounds)}
            if options.growth:
                tenth = measure(SETS[name](size // 10), options.rounds)
                row["growth"] = row["capture"] / tenth["capture"]
                row["restore_growth"] = row["restore"] / tenth["restore"]
            rows.append(row)
            if not options.json:
                _print(row)
    if options.json:
        print(json.dumps(rows, indent=1))


def _print(row: dict[str, Any]) -> None:
    print(
        f"{row['data']:16} {row['pickle']:8.3f} {row['capture']:8.3f} {row['capture_ratio']:6.2f}"
        f" {row['loads']:8.3f} {row['restore']:8.3f} {row['restore_ratio']:6.2f}"
        + (
            f"   10 times the data: capture {row['growth']:.1f}, restore {row['restore_growth']:.1f}"
            if "growth" in row
            else ""
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
