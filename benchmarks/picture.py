"""Pictures of results, beside their JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import figures, machine


def _axes(height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(9, height), layout="constrained")


def bars(
    name: str, title: str, values: dict[str, list[float]], ours: set[str], result: dict[str, Any]
) -> Path:
    """Medians in seconds with their quartiles, one bar each; ours in another colour. Returns the file."""
    picture, axes = _axes(1.2 + 0.32 * len(values))
    for place, (label, times) in enumerate(values.items()):
        low, middle, high = figures.spread(times)
        axes.barh(place, middle, color="#d9480f" if label in ours else "#8a96a3")
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        axes.text(high, place, f"  {figures.show(middle, 's')}", va="center", fontsize=8)
    axes.set_yticks(range(len(values)), list(values), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds: median and quartiles")
    return _finish(name, title, picture, axes, result)


def lines(
    name: str, title: str, curves: dict[str, list[tuple[float, float]]], labels: tuple[str, str],
    result: dict[str, Any],
) -> Path:  # fmt: skip
    """Curves with both axes logarithmic. Returns the file."""
    picture, axes = _axes(4.5)
    for label, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize=8)
    return _finish(name, title, picture, axes, result)


def _finish(name: str, title: str, picture: Any, axes: Any, result: dict[str, Any]) -> Path:
    from matplotlib import pyplot

    on = result["machine"]
    axes.set_title(
        f"{title}\n{on['cpu']}, {on['cores']} cores, torch {on['torch']}, {on['date']}", fontsize=9
    )
    axes.spines[["top", "right"]].set_visible(False)
    machine.RESULTS.mkdir(exist_ok=True)
    path = machine.RESULTS / f"{name}.png"
    picture.savefig(path, dpi=110, metadata={"Software": ""})
    pyplot.close(picture)
    return path
