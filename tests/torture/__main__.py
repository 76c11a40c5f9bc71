"""scripts/torture: kills by the thousand, and power that fails at every point.

scripts/torture store [--rounds N] [--seed S] [--keep]    N kills of a process that works on a store
scripts/torture pair, upload, s3                          N kills of two processes on one store, and of one that
                                                          uploads to a folder or to an S3 server
scripts/torture power [--rounds N] [--seed S] [--keep]    N commits, the power failing before each call to the disk
scripts/torture daemon [--rounds N] [--seed S] [--keep]   N kills of the daemon, and of its jobs' ckptd
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from faults import fileops

from torture import daemon, far, kill, pair, power

ROUNDS = {"store": 50, "pair": 50, "upload": 50, "s3": 20, "power": 4, "daemon": 20}


def main() -> None:
    """What its arguments ask for; exit status 1, with a trace, if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="scripts/torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=sorted(ROUNDS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/torture-WHAT.json")
    options = parser.parse_args()
    rounds = options.rounds or ROUNDS[options.what]
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    if options.what == "power" and not fileops.compiler():
        sys.exit("scripts/torture: to record what a process does to its disk a C compiler is needed (cc)")
    if options.what not in ("power", "s3", "daemon") and fileops.compiler() and not fileops.loaded():
        _again_with_library()
    folder = Path(os.environ.get("FILEOPS_UNDER") or tempfile.mkdtemp(prefix="ckptd-torture-"))
    try:
        tally = _torture(options.what, folder, rounds, seed)
    except Exception:
        print(f"what was written is kept in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    print(f"seed {seed}: {tally}")
    if options.keep:
        _keep(f"torture-{options.what}", {"seed": seed, **tally.as_json()})


def _torture(what: str, folder: Path, rounds: int, seed: int) -> kill.Tally | power.Tally | daemon.Kills:
    if what == "daemon":
        return daemon.torture_daemon(folder, rounds, seed)
    if what == "power":
        return power.cut_power(folder, rounds, seed)
    if what == "s3":
        server, url = far.serve()
        with server:
            try:
                return kill.torture(far.bucket_remote(folder, url), rounds, seed)
            finally:
                server.kill()
    scenes = {"store": kill.store, "pair": pair.pair, "upload": far.folder_remote}
    return kill.torture(scenes[what](folder), rounds, seed)


def _again_with_library() -> None:
    """Be started again, with the library that counts changes loaded, and end as that does."""
    with tempfile.TemporaryDirectory(prefix="ckptd-torture-library-") as built:
        work = Path(tempfile.mkdtemp(prefix="ckptd-torture-"))
        env = {**os.environ, **fileops.preload(fileops.build(Path(built)), work)}
        command = [sys.executable, "-m", "torture", *sys.argv[1:]]
        sys.exit(os.spawnve(os.P_WAIT, sys.executable, command, env))


def _keep(name: str, result: dict[str, Any]) -> None:
    from benchmarks.machine import describe, keep

    print(keep(name, {**result, "machine": describe()}))


if __name__ == "__main__":
    main()
