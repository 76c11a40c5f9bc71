"""Figures of jobs for Prometheus: counted from their news, served on loopback. docs/operations.md names them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ckptd.errors import UsageError

if TYPE_CHECKING:
    from ckptd.metrics.exporter import Exporter
    from ckptd.store.layout import Store


def export(port: int, store: Store, *, others: bool = False) -> Exporter:
    """Serve a page; ``others``: of all jobs in the store. Raises UsageError: the port is taken, the package missing."""
    if find_spec("prometheus_client") is None:
        raise UsageError("--metrics-port needs the package prometheus-client: pip install 'ckptd[metrics]'")
    from ckptd.metrics.exporter import Exporter

    return Exporter(port, store, others=others)
