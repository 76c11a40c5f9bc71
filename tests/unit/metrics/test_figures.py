"""What is counted of a job, and the page of it."""

from __future__ import annotations

import os
import time

import pytest

from ckptd.errors import UsageError
from ckptd.metrics import export
from ckptd.metrics.exporter import disk_usage
from ckptd.metrics.figures import BUCKETS, Figures
from ckptd.metrics.page import Snapshot, families
from ckptd.store.layout import open_store


def samples(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """The page by name and labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(snapshot)
        for sample in family.samples
    }


def test_news_are_counted():
    figures = Figures()
    for name, at, facts in (
        ("spawned", 0.0, {"attempt": 1}),
        ("asked", 1.0, {"leave": False}),
        ("copied", 1.2, {"seconds": 0.125}),
        ("durable", 1.4, {}),
        ("durable", 1.5, {}),  # recovered: nobody asked
        ("notice", 2.0, {"source": "aws", "kind": "leave"}),
        ("notice", 2.1, {"source": "aws", "kind": "advice"}),
        ("notice", 2.2, {"source": "aws", "kind": "leave"}),
        ("asked", 3.0, {"leave": True}),
        ("unsaved", 3.5, {"why": "no room"}),
        ("asked", 4.0, {"leave": True}),
        ("copied", 4.5, {"seconds": 0.25}),
        ("durable", 1000.0, {}),
        ("uploaded", 1001.0, {}),
        ("spawned", 1002.0, {"attempt": 2}),
    ):
        figures.hear(name, at, facts)
    told = figures.as_map()
    assert told["blocked"] == 0.375
    assert (told["failures"], told["restarts"], told["uploads"]) == (1, 1, 1)
    assert told["notices"] == {"aws": {"leave": 2, "advice": 1}}
    assert told["seconds"] == pytest.approx(996.4)
    counted = [0] * (len(BUCKETS) + 1)
    counted[BUCKETS.index(0.5)] = counted[-1] = 1
    assert told["counts"] == counted


def test_a_job_that_was_adopted_is_no_restart():
    figures = Figures()
    figures.hear("adopted", 0.0, {"pid": 1})
    assert figures.restarts == 0
    figures.hear("spawned", 1.0, {"attempt": 2})
    assert figures.restarts == 1


def test_the_page_of_a_job_that_runs():
    now = time.time()
    figures = Figures(blocked=2.5, notices={"gcp": {"leave": 1}}, seconds=7.0, counts=[0, 3] + [0] * 10)
    job = {
        "id": "12ab34cd", "name": "train", "state": "running", "step": 70, "attempt": 2, "created": now - 500,
        "checkpoint_at": now - 100, "figures": figures.as_map(), "extra": {"remote": {"at": 5.0, "error": "gone"}},
    }  # fmt: skip
    sources = [{"source": "gcp", "state": "ok"}, {"source": "logind", "state": "starting"}]
    page = samples(Snapshot([job], sources, 4096, 8192))
    of = ("12ab34cd", "train")
    assert page[("ckptd_job_state", *of, "running")] == 1
    assert page[("ckptd_job_step", *of)] == 70
    assert page[("ckptd_job_attempt", *of)] == 2
    assert page[("ckptd_checkpoint_last_success_timestamp_seconds", *of)] == job["checkpoint_at"]
    assert 100 <= page[("ckptd_unsaved_seconds", *of)] < 110
    assert page[("ckptd_training_blocked_seconds_total", *of)] == 2.5
    assert page[("ckptd_checkpoint_duration_seconds_bucket", *of, "0.1")] == 0
    assert page[("ckptd_checkpoint_duration_seconds_bucket", *of, "+Inf")] == 3
    assert page[("ckptd_checkpoint_duration_seconds_sum", *of)] == 7.0
    assert page[("ckptd_notices_total", *of, "gcp", "leave")] == 1
    assert page[("ckptd_upload_last_success_timestamp_seconds", *of)] == 5.0
    assert page[("ckptd_upload_failing", *of)] == 1
    assert page["ckptd_notice_source_up", "gcp"] == 1
    assert page["ckptd_notice_source_up", "logind"] == 0
    assert (page["ckptd_store_bytes",], page["ckptd_store_free_bytes",]) == (4096, 8192)


def test_the_page_of_one_that_has_ended_and_of_one_that_cant_be_read():
    page = samples(Snapshot([{"id": "1", "name": "a", "state": "finished", "step": None}, {"id": "2"}]))
    assert page["ckptd_job_state", "1", "a", "finished"] == 1
    assert page["ckptd_unsaved_seconds", "1", "a"] == 0
    assert ("ckptd_job_step", "1", "a") not in page
    assert ("ckptd_store_bytes",) not in page


def test_what_a_store_takes(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one").write_bytes(b"x" * 100_000)
    used = disk_usage(tmp_path)
    assert used >= 100_000
    os.link(tmp_path / "deep" / "one", tmp_path / "two")
    assert disk_usage(tmp_path) == used


def test_without_the_package_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("ckptd.metrics.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ckptd\[metrics\]"):
        export(0, open_store(tmp_path / "store"))
