"""Medians, ratios round by round, and the table of them with the bounds that hold or don't."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table


def spread(values: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values * 3
    return list(quantiles(values, n=4, method="inclusive"))


def columns(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """The values of each name in the order of the rounds."""
    return {name: [each[name] for each in rounds] for name in rounds[0]}


def quicker(values: dict[str, list[float]], *names: str) -> str:
    """The name with the lowest median."""
    return min(names, key=lambda name: median(values[name]))


@dataclass(frozen=True)
class Figure:
    """Something of ours beside something else, both in the same rounds; or alone."""

    what: str
    ours: list[float]
    beside: str = ""
    theirs: list[float] | None = None
    bound: float | None = None
    """Of the ratio, or of ``ours`` where there is nothing beside it."""
    most: bool = True
    """The bound is the most that is allowed; else the least."""
    unit: str = "s"

    def describe(self) -> dict[str, Any]:
        """As JSON: each value as [lower quartile, median, upper quartile]."""
        fields: dict[str, Any] = {"what": self.what, "unit": self.unit, "ours": spread(self.ours)}
        judged = fields["ours"]
        if self.theirs is not None:
            ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True)]
            judged = spread(ratios)
            fields |= {"beside": self.beside, "theirs": spread(self.theirs), "ratio": judged}
        if self.bound is not None:
            holds = judged[1] <= self.bound if self.most else judged[1] >= self.bound
            fields |= {"bound": self.bound, "most": self.most, "holds": holds}
        return fields


def tell(title: str, figures: list[dict[str, Any]]) -> None:
    """Print the figures for people."""
    show_table(_table(title, figures))


def show_table(table: Table) -> None:
    """Print a table; where that is no terminal, in lines long enough for a file."""
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)


def _table(title: str, figures: list[dict[str, Any]]) -> Table:
    found = Table(title=title)
    headings = ("what", "ckptd", "beside", "takes", "ratio (quartiles)", "bound", "")
    for heading in headings:
        found.add_column(heading, justify="left" if heading in ("what", "beside", "") else "right")
    for each in figures:
        unit = each["unit"]
        found.add_row(
            each["what"], show(each["ours"][1], unit), each.get("beside", ""),
            show(each["theirs"][1], unit) if "theirs" in each else "",
            "{1:.2f} ({0:.2f} to {2:.2f})".format(*each["ratio"]) if "ratio" in each else "",
            _bound(each), {True: "holds", False: "MISSED"}.get(each.get("holds"), ""),  # type: ignore[arg-type]
        )  # fmt: skip
    return found


def _bound(each: dict[str, Any]) -> str:
    if "bound" not in each:
        return ""
    text = f"{each['bound']:g}" if "ratio" in each else show(each["bound"], each["unit"])
    return text if each["most"] else f"at least {text}"


def show(value: float, unit: str) -> str:
    """A value with its unit, three digits long."""
    if unit == "s":
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.2f} s"
    if unit == "B":
        return f"{value / 2**20:.3g} MiB" if abs(value) < 2**30 else f"{value / 2**30:.2f} GiB"
    return f"{value:.3g}{unit}"
