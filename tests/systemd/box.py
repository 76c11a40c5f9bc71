"""A real systemd as process 1 of namespaces of its own: a machine that boots in half a second.

It has its own cgroups, /run, /tmp, /root, /dev/shm, /var/lib and (on top of the host's) /etc; all else, the network
too, is the host's. What the folder of the box holds outlasts a boot, as a disk does, and so do /etc and /var/lib;
the rest is gone, as memory is. There are dbus and logind, but neither journald nor udevd, nor what the host enables.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

INIT = Path("/lib/systemd/systemd")
ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30.0
"""Seconds for anything to happen."""
_HIDDEN = ("/run", "/tmp", "/var/tmp", "/var/log", "/dev/shm", "/root")
_MASKED = (
    "systemd-tmpfiles-setup.service", "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-clean.timer",
    "systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket", "systemd-journal-flush.service", "systemd-udevd.service",
    "systemd-sysctl.service", "systemd-modules-load.service", "systemd-update-utmp.service",
    "systemd-random-seed.service", "systemd-remount-fs.service", "systemd-machine-id-commit.service",
    "systemd-sysusers.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "getty.target",
)  # fmt: skip

_OUTER = """
set -e
mkdir -p "$BOX/cgroups"
mount --make-rprivate /
mount -t cgroup2 none "$BOX/cgroups"
mkdir -p "$BOX/cgroups/$GROUP"
echo $$ > "$BOX/cgroups/$GROUP/cgroup.procs"
umount "$BOX/cgroups"
exec unshare --pid --mount --fork --mount-proc --cgroup --uts --ipc bash -c "$INNER"
"""
_INNER = """
set -e
mount --make-rprivate /
exec 8<"$BOX"
i=0; for path in $KEEP; do eval "exec $((20 + i))<$path"; i=$((i + 1)); done
for path in $HIDDEN; do mount -t tmpfs tmpfs $path; done
mkdir -p "$BOX"; mount -c --bind /proc/self/fd/8 "$BOX"
i=0; for path in $KEEP; do mkdir -p $path; mount -c --bind /proc/self/fd/$((20 + i)) $path; i=$((i + 1)); done
mkdir -p "$BOX/etc" "$BOX/work" "$BOX/lib" "$BOX/units"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$BOX/etc,workdir=$BOX/work" /etc
mount --bind "$BOX/lib" /var/lib
mkdir -p /run/systemd/system /etc/systemd/system
mount --bind "$BOX/units" /etc/systemd/system
for unit in $MASKED; do ln -s /dev/null /run/systemd/system/$unit; done
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
exec env -i container=ckptd-box PATH="$PATH" "$INIT" --system --unit=multi-user.target --log-target=console
"""


@functools.cache
def why_not() -> str:
    """Why no box can be had here; '' if one can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in (str(INIT), "systemctl", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    # Root in a container often may do none of this.
    trial = (
        "mount --make-rprivate / && mount -t cgroup2 none /mnt && mkdir /mnt/ckptd-box-$$ && rmdir /mnt/ckptd-box-$$ "
        "&& mount -t tmpfs tmpfs /run && mkdir /run/u /run/w /run/o "
        "&& mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/u,workdir=/run/w /run/o"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "bash", "-c", trial],
        capture_output=True, text=True, check=False, timeout=DEADLINE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return f"no namespaces can be had: {done.stderr.strip()}" if done.returncode else ""


class Box:
    """The machine, off at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._console = folder / "console"
        self._group = f"ckptd-box-{os.getpid()}-{time.monotonic_ns()}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._init = 0

    @property
    def on(self) -> bool:
        """It runs."""
        return self._outer is not None

    # ---- power -----------------------------------------------------------------------------------

    def boot(self) -> None:
        """Switch it on, and wait until it is up."""
        ours = (sys.base_prefix, sys.prefix, str(ROOT))
        kept = [
            path for path in dict.fromkeys(ours) if path.startswith(tuple(f"{hidden}/" for hidden in _HIDDEN))
        ]
        env = {
            "PATH": os.environ["PATH"], "BOX": str(self.folder), "GROUP": self._group, "INNER": _INNER,
            "INIT": str(INIT), "HIDDEN": " ".join(_HIDDEN), "KEEP": " ".join(kept), "MASKED": " ".join(_MASKED),
        }  # fmt: skip
        with self._console.open("ab") as console:
            self._outer = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", _OUTER], env=env, stdin=subprocess.DEVNULL,
                stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        self.until(self._up, "a boot")

    def _up(self) -> bool:
        assert self._outer is not None
        assert self._outer.poll() is None, f"the box ended with {self._outer.poll()}"
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in (
            "running",
            "degraded",
        )

    def power_off(self) -> None:
        """Shut it down as an administrator does: every unit is stopped."""
        self.run("systemctl", "poweroff", "--no-block")
        assert self._outer is not None
        self._outer.wait(DEADLINE)
        self._clean()

    def cut(self) -> None:
        """Switch it off at once, whatever it does."""
        if self._outer is None:
            return
        for pid in (self._init, self._outer.pid):
            try:
                os.kill(pid, signal.SIGKILL) if pid else None
            except ProcessLookupError:
                continue  # off already
        self._outer.wait(DEADLINE)
        self._clean()

    def _clean(self) -> None:
        """Remove its cgroups; they are empty when its last process is gone."""
        self._outer, self._init = None, 0
        script = (
            'mount --make-rprivate /; mount -t cgroup2 none "$BOX/cgroups"; for _ in $(seq 100); do '
            'find "$BOX/cgroups/$GROUP" -depth -type d -exec rmdir {} + 2>/dev/null; '
            '[ -d "$BOX/cgroups/$GROUP" ] || exit 0; sleep 0.02; done; exit 1'
        )
        env = {"PATH": os.environ["PATH"], "BOX": str(self.folder), "GROUP": self._group}
        subprocess.run(["unshare", "--mount", "bash", "-c", script], env=env, check=True, timeout=DEADLINE)

    # ---- inside ----------------------------------------------------------------------------------

    def run(
        self, *command: str | Path, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root at its console would."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", "--", *map(str, command)],
            capture_output=True, text=True, check=False, timeout=2 * DEADLINE, stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **(env or {})},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}{self.log()}"
            )
        return done

    def inside(self, path: str) -> Path:
        """A path of the box, as it is reached from outside while the box is on."""
        return Path(f"/proc/{self._init}/root{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file in it."""
        self.inside(path).parent.mkdir(parents=True, exist_ok=True)
        self.inside(path).write_text(text)

    def properties(self, unit: str) -> dict[str, str]:
        """What systemd says of a unit."""
        said = self.run("systemctl", "show", unit).stdout
        return dict(line.partition("=")[::2] for line in said.splitlines())

    def state(self, unit: str) -> str:
        """'active', 'inactive', 'failed' and so on."""
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip()

    def main_pid(self, unit: str) -> int:
        """Of a unit's main process, as the box counts; 0 if there is none."""
        return int(self.properties(unit).get("MainPID", "0"))

    def processes_of(self, unit: str) -> list[int]:
        """Process ids of a unit, as the box counts; its threads are left out."""
        group = self.properties(unit)["ControlGroup"]
        return [int(pid) for pid in self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split()]

    def processes(self) -> dict[int, str]:
        """All processes in it but threads of the kernel: its own pid -> command line."""
        lines = self.run("ps", "-e", "-o", "pid=,args=").stdout.splitlines()
        return {int(line.split(None, 1)[0]): line.split(None, 1)[1] for line in lines}

    def until(self, condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
        """Wait for something to be true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come in {seconds:g} s\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        """The end of what its console has shown."""
        return self._console.read_text(errors="replace")[-6000:] if self._console.exists() else ""
