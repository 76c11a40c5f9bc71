"""Figures for Prometheus, read as Prometheus reads them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ckptd.errors import UsageError
from harness.hosts import FAKE, Host


def scrape(url: str) -> dict[tuple[str, ...], float]:
    """Samples by name and labels' values in the order of the labels, but for the job's id."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (
            sample.name,
            *(value for label, value in sorted(sample.labels.items()) if label != "job_id"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def url_in(text: str) -> str | None:
    found = re.search(r"figures at (http://127\.0\.0\.1:\d+/metrics)", text)
    return found[1] if found else None


def test_the_daemons_page_has_all_jobs(host):
    host.start("--metrics-port", "0", "--notices", f"file:{host.folder / 'leave'}")
    url = host.until(lambda: url_in(host.log()), "the page")
    job = host.job(5000, "one")
    host.job(5, "two")
    host.steps(job, 5)
    host.ended("two")
    host.ckptd("dump", job)
    host.until(lambda: scrape(url).get(("ckptd_checkpoint_duration_seconds_count", "one")), "its figures")
    page = scrape(url)
    assert page["ckptd_job_state", "one", "running"] == 1
    assert page["ckptd_checkpoint_duration_seconds_bucket", "+Inf", "one"] == 1
    assert page["ckptd_training_blocked_seconds_total", "one"] > 0
    assert page["ckptd_dump_failures_total", "one"] == 0
    assert page["ckptd_notice_source_up", "file"] == 1
    assert page["ckptd_store_bytes",] > 0
    host.until(lambda: scrape(url).get(("ckptd_job_state", "two", "finished")), "the one that has ended")
    host.ckptd("drill", "gcp", job)
    host.until(lambda: scrape(url).get(("ckptd_restarts_total", "one")) == 1, "the restart")
    assert scrape(url)["ckptd_notices_total", "leave", "one", "drill"] == 1
    assert host.stop() == 0
    with pytest.raises(urllib.error.URLError):
        scrape(url)


def run(host: Host, port: int) -> subprocess.Popen[bytes]:
    """A job in the foreground, with its own page."""
    command = [sys.executable, "-m", "ckptd", "run", "--name", "front", "--metrics-port", str(port), "--"]
    return subprocess.Popen(
        [*command, sys.executable, str(FAKE), "5000"], env=host.env, cwd=host.folder, stderr=subprocess.PIPE
    )


def test_a_job_in_the_foreground_has_its_own(host):
    with run(host, 0) as process:
        assert process.stderr is not None
        url = url_in(process.stderr.readline().decode())
        assert url is not None
        host.until(lambda: scrape(url).get(("ckptd_job_state", "front", "running")), "the job")
        process.terminate()
        assert process.wait(30) == 75


def test_a_port_that_is_taken(host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with run(host, port) as process:
            _, err = process.communicate(timeout=30)
    assert process.returncode == UsageError.status
    assert f"can't listen on 127.0.0.1:{port}" in err.decode()
    assert host.rows() == []
