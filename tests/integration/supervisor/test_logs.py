"""What ckptd says of itself, for programs."""

from __future__ import annotations

import json

STOPPED = 75


def told(run) -> list[dict]:
    """The lines of JSON on stderr."""
    return [json.loads(line) for line in run.err.splitlines() if line.startswith("{")]


def test_each_line_is_json(fake):
    run = fake(5000, flags=["--log-format", "json", "--name", "mine"])
    run.line("5")
    run.child().terminate()
    run.until(lambda: any(line["event"] == "resumed" for line in told(run)), "the resume")
    run.process.terminate()
    assert run.wait() == STOPPED
    lines = told(run)
    assert run.said == []
    assert {line["name"] for line in lines} == {"mine"}
    assert len({line["job"] for line in lines}) == 1
    events = [line["event"] for line in lines]
    assert [event for event in events if event != "said"] == [
        "durable", "exited", "resumed", "durable", "exited", "over",
    ]  # fmt: skip
    first = lines[events.index("durable")]
    assert first["fields"]["step"] >= 5
    assert first["text"].startswith("SIGTERM: saved step")
    assert lines[-1]["fields"] == {"status": STOPPED, "state": "stopped"} or lines[-1]["event"] == "said"


def test_an_error_is_one_of_them(fake):
    run = fake(5000, resume="refuse", flags=["--log-format", "json"])
    run.line("3")
    run.child().terminate()
    assert run.wait() == 14
    last = told(run)[-1]
    assert (last["level"], last["event"], last["fields"]) == ("error", "failed", {"status": 14})
    assert last["text"] == "line 7 of train.py is not reached: --fresh starts over"
    assert run.said == []
