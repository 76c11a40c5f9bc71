"""``ckptd status`` of a job for which the daemon listens."""

from __future__ import annotations


def test_the_daemons_sources_are_the_jobs(host):
    host.start("--notices", f"file:{host.folder / 'leave'}")
    job = host.job(2000)
    host.steps(job, 2)
    host.until(lambda: host.json("status", job)["live"]["by_daemon"], "the daemon's word")
    live = host.json("status", job)["live"]
    assert [(each["source"], each["state"]) for each in live["notices"]] == [("file", "ok")]
    assert "notices:    file ok (by the daemon)" in host.ckptd("status", job).stdout
