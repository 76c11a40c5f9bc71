"""The page that Prometheus reads: families of figures, from what jobs tell of themselves. Names are a promise."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ckptd import __version__, states
from ckptd.metrics.figures import BUCKETS

Facts = Mapping[str, Any]
"""A job as its ckptd answers to Look, or as much of that as is known."""


@dataclass(frozen=True)
class Snapshot:
    """What is known at a time; replaced as a whole, so that any thread may read it."""

    jobs: Sequence[Facts] = ()
    sources: Sequence[Mapping[str, Any]] = ()
    """Health of the sources of notices."""
    used: int | None = None
    """Bytes of the store."""
    free: int | None = None
    """Bytes free on its disk."""


@dataclass
class Page:
    """Families, by name."""

    families: dict[str, Any] = field(default_factory=dict)

    def gauge(self, name: str, text: str, labels: Mapping[str, str], value: float | None) -> None:
        """A value that goes up and down; none where it isn't known."""
        if value is not None:
            self._family(GaugeMetricFamily, name, text, labels).add_metric(list(labels.values()), value)

    def counter(self, name: str, text: str, labels: Mapping[str, str], value: float | None) -> None:
        """A sum; ``name`` without the _total that is put behind it."""
        if value is not None:
            self._family(CounterMetricFamily, name, text, labels).add_metric(list(labels.values()), value)

    def histogram(
        self, name: str, text: str, labels: Mapping[str, str], counts: Sequence[int], total: float
    ) -> None:
        """Counts by BUCKETS."""
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        sums = [sum(counts[: at + 1]) for at in range(len(bounds))]
        family = self._family(HistogramMetricFamily, name, text, labels)
        family.add_metric(list(labels.values()), list(zip(bounds, sums, strict=True)), total)

    def _family(self, kind: Any, name: str, text: str, labels: Mapping[str, str]) -> Any:
        if name not in self.families:
            self.families[name] = kind(name, text, labels=list(labels))
        return self.families[name]


def families(snapshot: Snapshot) -> Iterable[Metric]:
    """All of the page."""
    page = Page()
    page.gauge("ckptd_build_info", "1, for the version that runs.", {"version": __version__}, 1)
    for facts in snapshot.jobs:
        _add_job(page, facts, time.time())
    for source in snapshot.sources:
        page.gauge(
            "ckptd_notice_source_up", "1 if this source of notices answers.", {"source": str(source.get("source"))},
            float(source.get("state") == "ok"),
        )  # fmt: skip
    page.gauge("ckptd_store_bytes", "What the store takes on its disk.", {}, snapshot.used)
    page.gauge("ckptd_store_free_bytes", "What is free there.", {}, snapshot.free)
    return page.families.values()


def _add_job(page: Page, facts: Facts, now: float) -> None:
    job = {"job_id": str(facts.get("id", "")), "name": str(facts.get("name", ""))}
    state = str(facts.get("state", ""))
    page.gauge("ckptd_job_state", "1, for the state in which the job is.", {**job, "state": state}, 1)
    page.gauge(
        "ckptd_job_step", "Training steps done, as told every few seconds.", job, _number(facts, "step")
    )
    page.gauge("ckptd_job_attempt", "How many times the program was started.", job, _number(facts, "attempt"))
    saved = _number(facts, "checkpoint_at")
    page.gauge(
        "ckptd_checkpoint_last_success_timestamp_seconds", "When the newest checkpoint was taken, Unix time.", job,
        saved,
    )  # fmt: skip
    since = saved if saved is not None else _number(facts, "created")
    unsaved = 0.0 if state not in states.LIVE else None if since is None else max(0.0, now - since)
    page.gauge("ckptd_unsaved_seconds", "Age of the work that a failure now would cost.", job, unsaved)
    remote = (facts.get("extra") or {}).get("remote")
    if isinstance(remote, Mapping):
        page.gauge(
            "ckptd_upload_last_success_timestamp_seconds", "When the last upload was done, Unix time.", job,
            _number(remote, "at"),
        )  # fmt: skip
        page.gauge(
            "ckptd_upload_failing", "1 if the last upload failed.", job, float(bool(remote.get("error")))
        )
    if isinstance(figures := facts.get("figures"), Mapping):
        _add_figures(page, figures, job)


def _add_figures(page: Page, figures: Facts, job: Mapping[str, str]) -> None:
    page.histogram(
        "ckptd_checkpoint_duration_seconds", "From the request for a checkpoint until it was durable.", job,
        figures["counts"], figures["seconds"],
    )  # fmt: skip
    for name, key, text in (
        ("ckptd_training_blocked_seconds", "blocked", "Time that training stood still for checkpoints."),
        ("ckptd_dump_failures", "failures", "Checkpoints that could not be made."),
        ("ckptd_restarts", "restarts", "Starts of the program behind the first one."),
        ("ckptd_uploads", "uploads", "Checkpoints that arrived at the remote."),
    ):
        page.counter(name, text, job, _number(figures, key))
    for source, kinds in figures["notices"].items():
        for kind, count in kinds.items():
            labels = {**job, "source": source, "kind": kind}
            page.counter("ckptd_notices", "Notices that were heard.", labels, count)


def _number(facts: Facts, key: str) -> float | None:
    value = facts.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
