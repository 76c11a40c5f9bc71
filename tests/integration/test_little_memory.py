"""A machine whose shared memory has no room for the state: it goes to the disk, and comes back bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
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


LARGE = """
import sys, time, torch
torch.manual_seed(0)
net = torch.nn.Linear(1 << 14, 1 << 13, bias=False)  # 512 MiB, and as much again of gradients
for i in range(10000):
    if i % 50 == 0:
        net.weight.grad = torch.ones_like(net.weight) if i == 0 else net.weight.grad.add_(1)
    loss = (net.weight[0] * 2).sum().detach().requires_grad_()
    loss.backward()
    print(i, flush=True)
    time.sleep(0.02)
"""
BUFFERS = 512 << 20
"""Bytes of memory that a dump which goes to the disk at once may take, in all."""


def held(pid: int) -> tuple[int, int]:
    """Bytes that a process holds now, and has held at most."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) << 10, int(fields["VmHWM"].split()[0]) << 10


@pytest.mark.nightly
@pytest.mark.skipif(not shutil.which("unshare") or not may_mount(), reason="may not mount here")
def test_that_takes_the_buffers_of_some_writes_however_large_the_state_is(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LARGE)
    env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
    command = [sys.executable, "-m", "ckptd", "run", "-v", "--every", "20steps"]
    command += ["--store", str(tmp_path / "store"), "--", sys.executable, "train.py"]
    with subprocess.Popen(
        [*SMALL, *command], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        while not run.stdout.readline().startswith("10\n"):
            pass
        processes = psutil.Process(run.pid).children(recursive=True)
        pids = [run.pid, *(each.pid for each in processes)]
        before = sum(held(pid)[0] for pid in pids)
        Path(f"/proc/{processes[-1].pid}/clear_refs").write_text("5")  # the most is counted from here on
        Path(f"/proc/{run.pid}/clear_refs").write_text("5")
        for line in run.stderr:
            if "saved step" in line:
                break
        most = sum(held(pid)[1] for pid in pids)
        run.terminate()
        run.communicate(timeout=120)
    print(f"{(most - before) >> 20} MiB more than the {before >> 20} MiB of the program and ckptd")
    assert most - before < BUFFERS
    assert run.returncode == 75
