"""How lines of ckptd's own look, for people, for programs and for systemd's journal."""

from __future__ import annotations

import json
import os
import re
import socket

from ckptd.daemon import forms
from ckptd.daemon.forms import Entry
from ckptd.daemon.voice import Voice

ENTRY = Entry(1_800_000_000.25, forms.WARNING, "could not\nsave", "unsaved", {"why": "no room", "step": 7})
ABOUT = {"job": "12ab34cd", "name": "train"}


def spoken(form: str, journal: str, speak) -> bytes:
    """What has come out of a voice."""
    read, write = os.pipe()
    voice = Voice(0, write, form, journal)
    voice.about = ABOUT
    speak(voice)
    os.close(write)
    with open(read, "rb") as file:
        return file.read()


def test_lines_for_people():
    assert forms.line(forms.PLAIN, ENTRY, ABOUT) == b"ckptd: could not save\n"
    assert forms.line(forms.STAMPED, ENTRY, ABOUT) == b"2027-01-15T08:00:00.250Z ckptd: could not save\n"
    assert forms.line(forms.JOURNAL, ENTRY, ABOUT) == b"<4>ckptd: could not save\n"
    assert len(forms.line(forms.PLAIN, Entry(0, forms.INFO, "é" * 9000), {})) == forms.MAX_BYTES


def test_a_line_of_json():
    assert json.loads(forms.line(forms.JSON, ENTRY, ABOUT)) == {
        "time": "2027-01-15T08:00:00.250Z", "level": "warning", "job": "12ab34cd", "name": "train", "event": "unsaved",
        "text": "could not save", "fields": {"why": "no room", "step": 7},
    }  # fmt: skip
    long = forms.line(forms.JSON, Entry(0, forms.INFO, "\udcff" * 9000, "x", {"y": "z" * 9000}), {})
    assert len(long) <= forms.MAX_BYTES
    assert json.loads(long)["event"] == "x"
    of_a_job = Entry(0, forms.INFO, "started", "started", {"job": "1", "name": "n"})
    assert json.loads(forms.line(forms.JSON, of_a_job, {}))["job"] == "1"


def test_the_sentence_is_found_again():
    for form in (forms.PLAIN, forms.STAMPED, forms.JSON, forms.JOURNAL):
        assert forms.text_of(forms.line(form, ENTRY, ABOUT).decode()) == "could not save"
    assert forms.text_of("Traceback") == forms.text_of('{"text": "cut o') == ""


def test_the_journal_gets_fields(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(5)
        out = spoken(
            forms.JOURNAL, path, lambda voice: voice.warn("could not\nsave", "unsaved", why="a\nb", step=7)
        )
        assert out == b""
        lines = journal.recv(4096).decode().splitlines()
    assert lines == [
        "MESSAGE=could not save", "PRIORITY=4", "SYSLOG_IDENTIFIER=ckptd", "CKPTD_EVENT=unsaved", "CKPTD_WHY=a b",
        "CKPTD_STEP=7", "CKPTD_JOB=12ab34cd", "CKPTD_NAME=train",
    ]  # fmt: skip


def test_without_the_journals_socket_a_line_has_its_priority(tmp_path):
    out = spoken(forms.JOURNAL, str(tmp_path / "none"), lambda voice: voice.say("saved", "durable", step=7))
    assert out == b"<6>ckptd: saved\n"


def test_a_journal_that_is_full_is_not_waited_for(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)

        def speak(voice: Voice) -> None:
            for _ in range(2000):  # more than net.unix.max_dgram_qlen
                voice.say("x", "y")

        assert re.fullmatch(rb"(<6>ckptd: x\n)+", spoken(forms.JOURNAL, path, speak))


def test_the_form_is_chosen(tmp_path):
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    status = os.fstat(file)
    stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert forms.choose_form("plain", file, stream, kept=True) == forms.JOURNAL
    assert forms.choose_form("json", file, stream, kept=True) == forms.JSON
    assert forms.choose_form("plain", file, {"JOURNAL_STREAM": "1:2"}, kept=True) == forms.STAMPED
    assert forms.choose_form("plain", file, {"JOURNAL_STREAM": "x"}, kept=False) == forms.PLAIN
    os.close(file)
    assert forms.choose_form("plain", file, stream, kept=False) == forms.PLAIN


def test_news_without_a_sentence_is_for_programs():
    def hear(voice: Voice) -> None:
        for name in ("exited", "durable", "state"):
            voice.hear(name, 0.0, {"status": 3})

    assert spoken(forms.PLAIN, "", hear) == b""
    (line,) = spoken(forms.JSON, "", hear).splitlines()
    told = json.loads(line)
    assert (told["event"], told["fields"], told["text"]) == ("exited", {"status": 3}, "exited: status 3")
