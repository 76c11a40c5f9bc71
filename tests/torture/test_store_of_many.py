"""Many checkpoints: benchmarks/store.py with fewer of them. Ten thousand are in benchmarks/results/store.json."""

from __future__ import annotations

from pathlib import Path

from benchmarks.store import Bench, pace
from ckptd.store.verify import verify_checkpoint

FEW, MANY = 10, 1500


def test_listing_is_fast_and_a_commit_no_slower_beside_many(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.grow(FEW)
    few, listing_few = pace(bench.commit), pace(bench.ls, 3)
    bench.grow(MANY)
    many, listing_many = pace(bench.commit), pace(bench.ls, 3)
    print(f"commit {few} ms beside {FEW}, {many} ms beside {MANY}; ls {listing_few} ms, {listing_many} ms")
    assert many < 2 * few + 10
    # What an interpreter takes to start is the machine's affair; ten thousand have a second in all.
    assert listing_many - listing_few < 1000 * MANY / 10_000 + 0.5 * listing_few
    verify_checkpoint(max(bench.folder.checkpoints.iterdir()))
