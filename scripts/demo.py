"""Trains examples/digits.py twice, stops the second run two times by SIGTERM, and compares the two.

The first run is left alone. The second runs under ``ckptd run``; in two of its epochs a real SIGTERM
goes to the training process, which is dumped, ended, started again and resumed. Then every figure
that the two printed, every weight that they saved and every byte of their CSV logs must be equal.
Exit status: 0 they are, 1 they aren't.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "examples" / "digits.py"
LONGEST = 600.0
"""Seconds that one run may take."""

console = Console(highlight=False, width=max(80, min(110, Console().width)))
began = time.monotonic()


@dataclass(frozen=True)
class Stop:
    """A SIGTERM, sent when the given epoch has printed so many lines."""

    epoch: int
    lines: int


@dataclass(frozen=True)
class Run:
    """What a finished run left."""

    folder: Path
    lines: list[str]
    stops: list[int]
    """How many lines had been printed when each SIGTERM was sent."""
    pids: list[int]
    """The processes that trained, one after the other."""
    seconds: float


def main() -> int:
    """Run both, compare, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20, help="length of each run (default 20, at least 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="where all of it goes")
    args = parser.parse_args()
    if args.epochs < 3:
        parser.error("--epochs must be 3 or more, as two of them are interrupted")

    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    command = [sys.executable, str(SCRIPT), "--epochs", str(args.epochs), "--out", "out"]
    stops = [Stop(max(2, args.epochs // 3), 3), Stop(max(3, 2 * args.epochs // 3), 2)]

    say(f"plain: python examples/digits.py --epochs {args.epochs}")
    plain = run(command, args.out / "plain", [])
    say(f"plain: done in {plain.seconds:.0f} s")
    say(f"under ckptd: ckptd run -- python examples/digits.py --epochs {args.epochs}")
    ckptd = [sys.executable, "-m", "ckptd", "run", "--store", str(args.out / "store"), "--", *command]
    under = run(ckptd, args.out / "ckptd", stops)
    say(f"under ckptd: done in {under.seconds:.0f} s")

    equal = verdict(plain, under, len(stops))
    picture = args.out / "loss.png"
    draw(plain, under, picture)
    console.print(f"both loss curves: {shown(picture)}")
    return 0 if equal else 1


# ---- running ----------------------------------------------------------------------------------


def run(command: list[str], folder: Path, stops: list[Stop]) -> Run:
    """Run the command in the folder; send SIGTERM to the training process at each of the stops."""
    folder.mkdir()
    start = time.monotonic()
    waiting, marks, lines, pids, in_epoch = list(stops), [], [], [], 0
    # Unbuffered, so that a line is seen when it is printed.
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    watch = threading.Timer(LONGEST, end, [process])  # a run that hangs prints no line to wake us
    watch.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch") and "done" in line:
                say(f"  {line.strip()}")
                in_epoch = 0
                pids.append(training_process(process.pid, command).pid)
            elif line.startswith("epoch"):
                in_epoch += 1
                if waiting and int(line.split()[1]) == waiting[0].epoch and in_epoch == waiting[0].lines:
                    waiting.pop(0)
                    marks.append(len(lines))
                    trains = training_process(process.pid, command)
                    trains.send_signal(signal.SIGTERM)
                    say(
                        f"  {line.strip()}   <- SIGTERM to the training process, pid {trains.pid}",
                        "bold yellow",
                    )
        status = process.wait()
    finally:
        watch.cancel()
        end(process)
    if time.monotonic() - start > LONGEST:
        raise SystemExit(f"demo: it took longer than {LONGEST:.0f} s")
    if status:
        raise SystemExit(f"demo: the run ended with exit status {status}")
    if waiting:
        raise SystemExit(f"demo: epoch {waiting[0].epoch} never came, so it could not be interrupted")
    return Run(folder, lines, marks, list(dict.fromkeys(pids)), time.monotonic() - start)


def training_process(first: int, command: list[str]) -> psutil.Process:
    """The process that trains: the one that was started, or ckptd's child that runs the script."""
    if "--" not in command:
        return psutil.Process(first)
    training = command[command.index("--") + 2 :]
    for child in psutil.Process(first).children():
        if child.cmdline()[1:] == training:
            return child
    raise SystemExit("demo: the training process was not found below ckptd")


def end(process: subprocess.Popen[str]) -> None:
    """Leave nothing running, whatever happened."""
    if process.poll() is None:
        first = psutil.Process(process.pid)
        for member in [*first.children(recursive=True), first]:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait(timeout=30)


# ---- comparing --------------------------------------------------------------------------------


def verdict(plain: Run, under: Run, stops: int) -> bool:
    """Print how the two compare; True: they are the same, bit for bit."""
    rows = [figures(plain, under), weights(plain, under), log(plain, under)]
    stopped = len(under.pids) - 1
    title = f"\na run that was stopped {stopped} times, against one that never was"
    table = Table(title=title, title_justify="left")
    for heading in ("what", "compared", "differ", "verdict"):
        table.add_column(heading, justify="right" if heading == "differ" else "left")
    for what, compared, differ in rows:
        mark = "[green]identical[/]" if differ == 0 else "[bold red]DIFFERENT[/]"
        table.add_row(what, compared, str(differ), mark)
    console.print(table)
    if stopped != stops:
        # Otherwise a ckptd that ignores its signals would pass.
        console.print(
            f"[bold red]{stops} SIGTERMs were sent, and the process was replaced {stopped} times[/]"
        )
    return stopped == stops and all(differ == 0 for *_, differ in rows)


def figures(plain: Run, under: Run) -> tuple[str, str, int]:
    """Every line that the script printed."""
    return "figures on stdout", f"{len(plain.lines)} lines", unequal(plain.lines, under.lines)


def weights(plain: Run, under: Run) -> tuple[str, str, int]:
    """Every tensor of the saved models, bit for bit."""
    import torch  # here, as it takes a second or two to load

    one, other = (torch.load(run.folder / "out" / "model.pt") for run in (plain, under))
    differ = len(one.keys() ^ other.keys())
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        same = a.dtype == b.dtype and a.shape == b.shape
        # as bytes: torch.equal() alone would call 0.0 and -0.0 equal
        differ += not (same and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)))
    values = sum(tensor.numel() for tensor in one.values())
    return "weights in model.pt", f"{len(one)} tensors, {values} values", differ


def log(plain: Run, under: Run) -> tuple[str, str, int]:
    """The CSV log, byte for byte."""
    one, other = ((run.folder / "out" / "metrics.csv").read_bytes() for run in (plain, under))
    return "metrics.csv", f"{len(one)} bytes", unequal(one, other)


def unequal(one: list[str] | bytes, other: list[str] | bytes) -> int:
    """In how many places the two differ; what is missing or too many counts."""
    differ = sum(a != b for a, b in zip(one, other, strict=False))
    return differ + abs(len(one) - len(other))


# ---- drawing ----------------------------------------------------------------------------------


def draw(plain: Run, under: Run, picture: Path) -> None:
    """Both loss curves, one on the other, with the interruptions marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4.5), layout="constrained")
    axes.plot(losses(plain), color="#9ec5e8", linewidth=5, label="plain, never stopped")
    axes.plot(
        losses(under), color="#10375c", linewidth=1, label=f"under ckptd, stopped {len(under.pids) - 1} times"
    )
    for number, stop in enumerate(under.stops):
        label = "SIGTERM, dump, relaunch, resume" if number == 0 else None
        axes.axvline(step_at(under, stop), color="#c8553d", linestyle="--", label=label)
    axes.set_yscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.set_title("examples/digits.py: the same run twice")
    axes.legend()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)


def losses(run: Run) -> list[float]:
    """Loss of each training step, from the CSV."""
    with open(run.folder / "out" / "metrics.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["batch"] != "test"]


def step_at(run: Run, lines: int) -> int:
    """The training step that the run was at when it had printed so many lines."""
    last = run.lines[lines - 1]
    epoch, wanted = int(last.split()[1]), float(last.split("loss")[1])
    step = 0
    with open(run.folder / "out" / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["batch"] == "test":
                continue
            if int(row["epoch"]) == epoch and f"{float(row['loss']):.6f}" == f"{wanted:.6f}":
                break
            step += 1
    return step


# ---- speaking ---------------------------------------------------------------------------------


def say(text: str, style: str = "") -> None:
    """One line, with the time since the start."""
    console.print(f"[{time.monotonic() - began:6.1f} s] {text}", style=style, markup=False, soft_wrap=True)


def shown(path: Path) -> str:
    """The path as a person would write it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
