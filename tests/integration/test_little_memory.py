"""A machine whose shared memory has no room for the state: it goes to the disk, and comes back bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import time, numpy as np, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.Linear(400, 7))
opt = torch.optim.Adam(net.parameters())
same = [torch.zeros(1000) for _ in range(5)]
strided = np.arange(100000.0).reshape(100, 1000)[:, ::2]
fortran = np.asfortranarray(np.random.RandomState(0).rand(50, 60))
half, mask = torch.ones(3, 5, dtype=torch.float16), torch.ones(77, dtype=torch.bool)
rows = [np.full(3, i) for i in range(300)]
for i in range(60):
    opt.zero_grad()
    loss = net(torch.randn(8, 300)).pow(2).mean()
    loss.backward()
    opt.step()
    strided += 1
    fortran *= 1.01
    same[i % 5] += i
    rows[i][0] = -i
    print(i, loss.item(), strided.sum(), fortran.sum(), sum(t.sum().item() for t in same), sum(r.sum() for r in rows),
          half.sum().item(), mask.sum().item(), flush=True)
    time.sleep(0.02)
"""
SMALL = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=200k tmpfs /dev/shm && exec "$@"', "sh"]
"""A shared memory of its own, of 200 kB."""


def may_mount() -> bool:
    return (
        os.geteuid() == 0
        and subprocess.run([*SMALL, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not shutil.which("unshare") or not may_mount(), reason="may not mount here")
def test_what_memory_has_no_room_for_goes_to_the_disk(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
    plain = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=env, capture_output=True, check=True
    ).stdout
    store = tmp_path / "store"
    command = [
        *SMALL,
        sys.executable,
        "-m",
        "ckptd",
        "run",
        "-v",
        "--store",
        str(store),
        "--",
        sys.executable,
        "train.py",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        begun = b"".join(first.stdout.readline() for _ in range(5))
        first.send_signal(signal.SIGTERM)  # exec: it is ckptd
        rest, said = first.communicate(timeout=60)
    assert first.returncode == 75, said.decode()
    (checkpoint,) = store.glob("jobs/*/checkpoints/*")
    assert not list(store.glob("jobs/*/segments/*"))
    verified = [sys.executable, "-m", "ckptd", "verify", "--read-data", "--store", str(store)]
    assert subprocess.run(verified, capture_output=True, check=False).returncode == 0
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=120)
    assert again.returncode == 0, again.stderr.decode()
    assert begun + rest + again.stdout == plain
    assert time.time() > checkpoint.stat().st_mtime
