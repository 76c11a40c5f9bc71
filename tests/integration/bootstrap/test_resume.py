"""How a resume begins: in the process that was checkpointed, before its script is compiled, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from integration.bootstrap.job import Place
from integration.bootstrap.router import Router

from ckptd.protocol import Hello, Refused

SCRIPT = """
import sys
from ckptd_agent import safepoint
armed = 'ckptd_agent.line' in sys.modules
print(safepoint.REPLAYING, armed)
if armed:
    safepoint.meet()
"""


def _checkpoint(place: Place, argv: list[str]) -> str:
    folder = place.folder / "checkpoint"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"facts": {"orig_argv": argv}}))
    return str(folder)


def _words(place: Place, script: Path) -> list[str]:
    return [place.python, str(script), "--epochs", "3"]


def test_the_checkpointed_process_replays_from_its_start(place: Place, router: Router) -> None:
    words = _words(place, place.write("train.py", SCRIPT))
    folder = _checkpoint(place, words)
    result = place.run(words[1:], place.under(router.endpoint, CKPTD_RESUME=folder))
    assert result == (0, b"True True\n", b"")
    assert router.expect(Hello).resume == folder


def test_a_launcher_in_between_does_not(place: Place, router: Router) -> None:
    words = _words(place, place.write("train.py", SCRIPT))
    launcher = place.write(
        "launch.py", SCRIPT + f"import subprocess\nsys.stdout.flush()\nsys.exit(subprocess.call({words!r}))\n"
    )
    env = place.under(router.endpoint, CKPTD_RESUME=_checkpoint(place, words))
    assert place.run([launcher], env) == (0, b"False False\nTrue True\n", b"")


@pytest.mark.parametrize("how", ["refused", "crash"])
def test_a_refusal_is_told_and_nothing_of_the_script_runs(place: Place, router: Router, how: str) -> None:
    words = _words(place, place.write("train.py", "open('touched', 'w')\n" + SCRIPT))
    folder = _checkpoint(place, words)
    result = place.run(words[1:], place.under(router.endpoint, CKPTD_RESUME=folder, TEST_REFUSE=how))
    assert result == (14, b"", b"")
    why = router.expect(Refused).why
    if how == "refused":
        assert why == "torch is 2.12, the checkpoint's is 2.13; --fresh starts over"
    else:
        assert why == f"{folder}: the agent failed to resume it (ZeroDivisionError: division by zero)"
    assert not (place.folder / "touched").exists()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"facts": {}}'])
def test_a_manifest_that_does_not_say_is_a_refusal(place: Place, router: Router, text: str | None) -> None:
    words = _words(place, place.write("train.py", "open('touched', 'w')\n" + SCRIPT))
    folder = _checkpoint(place, words)
    manifest = Path(folder, "manifest.json")
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    assert place.run(words[1:], place.under(router.endpoint, CKPTD_RESUME=folder)) == (14, b"", b"")
    assert router.expect(Refused).why.startswith(f"{folder}: its manifest can't be used (")
    assert not (place.folder / "touched").exists()


def test_a_refusal_that_reaches_nobody_is_written(place: Place) -> None:
    words = _words(place, place.write("train.py", SCRIPT))
    env = place.under(f"ipc://{place.folder}/nobody", CKPTD_RESUME=_checkpoint(place, words), TEST_REFUSE="1")
    status, out, err = place.run(words[1:], env)
    assert (status, out) == (14, b"")
    assert err == b"ckptd: torch is 2.12, the checkpoint's is 2.13; --fresh starts over\n"
