"""Sources of other packages, installed as such."""

from __future__ import annotations

import sys

import pytest

from ckptd.errors import UsageError
from ckptd.notices.choose import choose
from ckptd.notices.event import ADVICE
from ckptd.notices.machine import Files

MODULE = """
import time
from ckptd.notices.event import ADVICE, Notice


class Battery:
    name = "battery"

    def __init__(self, percent):
        self.percent = int(percent or "20")

    def watch(self, ears, over):
        ears.well()
        ears.tell(Notice(self.name, ADVICE, "low", None, f"the battery is below {self.percent} %"))
        over.wait()


class Sheet:
    pass


def absent(argument):
    raise OSError("no such\\nbattery")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with four plug-ins, as pip would have put it there."""
    folder = tmp_path / "site"
    info = folder / "cells-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "ckptd_cells.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cells\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ckptd.notices]\n"
        "battery = ckptd_cells:Battery\n"
        "absent = ckptd_cells:absent\n"
        "missing = ckptd_cells:Missing\n"
        "sheet = ckptd_cells:sheet_of\n"
        "aws = ckptd_cells:Battery\n"
    )
    (folder / "ckptd_cells.py").write_text(MODULE + "\ndef sheet_of(argument):\n    return Sheet()\n")
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("ckptd_cells", None)


@pytest.mark.usefixtures("installed")
def test_a_plug_in_is_chosen_by_name_and_heard(listen, tmp_path):
    (source,) = choose("battery:15", {}, Files(tmp_path))
    listening = listen(source)
    notice = listening.next()
    assert (notice.source, notice.kind, notice.text) == ("battery", ADVICE, "the battery is below 15 %")
    assert listening.health("battery").state == "ok"


@pytest.mark.usefixtures("installed")
def test_no_plug_in_listens_unless_it_is_named(tmp_path):
    assert choose("auto", {}, Files(tmp_path)) == []
    assert "ckptd_cells" not in sys.modules


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "--notices absent: the plug-in ckptd_cells:absent fails: OSError: no such battery"),
        ("missing", "AttributeError"),
        ("sheet", "has no name, or no watch()"),
        ("battery:few", "ValueError"),
        (
            "batery",
            "there are auto, none, aws, gcp, azure, alibaba, slurm, logind, file:PATH, absent, battery, missing",
        ),
    ],
)
def test_what_a_plug_in_does_wrong_is_said_in_one_line(tmp_path, name, says):
    with pytest.raises(UsageError) as caught:
        choose(name, {}, Files(tmp_path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_no_plug_in_takes_a_name_that_is_ours(tmp_path):
    assert {type(source).__module__ for source in choose("aws", {}, Files(tmp_path))} == {
        "ckptd.notices.looks"
    }
