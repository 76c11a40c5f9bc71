"""Settings of the process are read without harm, and come back where they differ."""

import decimal
import logging
import os
import subprocess
import sys
import time
import warnings

import msgpack
import numpy
import pytest
import torch

from ckptd_agent import environment, link, loggers, modes, precision, settings


@pytest.fixture(autouse=True)
def as_before():
    """Leave the process as it was."""
    saved = settings.take()
    yield
    assert settings.put(saved) == []


@pytest.fixture
def carried():
    """What is read now, as it comes out of a checkpoint."""
    return lambda: msgpack.unpackb(msgpack.packb(settings.take()))


def change_all():
    os.environ["CKPT_SETTING"] = "1"
    decimal.getcontext().prec = 7
    decimal.getcontext().traps[decimal.Inexact] = True
    numpy.set_printoptions(precision=2)
    numpy.seterr(all="ignore")
    torch.set_printoptions(precision=2, sci_mode=True)
    torch.set_anomaly_enabled(True, False)
    torch.set_flush_denormal(True)
    torch.backends.cuda.enable_math_sdp(False)
    torch.backends.cudnn.enabled = False
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - mypy does not know it
    sys.setrecursionlimit(2222)
    logging.getLogger("settings.one").setLevel(33)
    logging.disable(5)
    os.umask(0o071)


def test_all_settings_are_read_and_set(carried):
    logging.getLogger("settings.one").setLevel(0)
    before = carried()
    change_all()
    changed = carried()
    names = {
        "environ", "decimal", "numpy_print", "numpy_errors", "torch_print", "anomaly", "flush_denormal", "math_sdp",
        "cudnn", "fill_uninitialized", "recursion", "loggers", "umask",
    }  # fmt: skip
    assert {name for name in changed if changed[name] != before[name]} == names
    assert settings.put(before) == []
    assert carried() == before
    assert settings.put(changed) == []
    assert carried() == changed


def test_what_cannot_be_read_is_left_out_and_raises_nothing(monkeypatch):
    def fails():
        raise RuntimeError("no")

    table = [
        settings.Setting("bad", fails, print),
        settings.Setting("odd", lambda: object(), print),
        settings.Setting("surrogate", lambda: "\udcff", print),
        settings.Setting("good", lambda: 1, print),
    ]
    monkeypatch.setattr(settings, "SETTINGS", table)
    assert settings.take() == {"good": 1}
    monkeypatch.undo()


def test_what_cannot_be_set_is_said(monkeypatch):
    def fails(value):
        raise RuntimeError(f"not {value}")

    monkeypatch.setattr(settings, "SETTINGS", [settings.Setting("bad", lambda: 1, fails)])
    assert settings.put({"bad": 1, "from a later version": 2}) == []
    assert settings.put({"bad": 3}) == ["the setting 'bad' is not as at the checkpoint: RuntimeError: not 3"]
    monkeypatch.undo()


def test_only_the_variables_that_the_program_changed_are_carried(monkeypatch):
    monkeypatch.setattr(
        environment, "at_start", lambda: {b"KEPT": b"1", b"GONE": b"2", b"OTHER": b"3", b"CKPTD_X": b"4"}
    )
    now = {
        "KEPT": "1",
        "OTHER": "5",
        "NEW": "t\udcff",
        "CKPTD_Y": "6",
        "PYTHONHASHSEED": "7",
        "MASTER_PORT": "8",
    }
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in now.items():
        monkeypatch.setenv(name, value)
    saved = environment.changed()
    assert saved == [(b"GONE", None), (b"NEW", b"t\xff"), (b"OTHER", b"5")]
    # another machine, where the replay has set something that the program took back later on
    start = {b"KEPT": b"9", b"GONE": b"2", b"STAGE": b"a"}
    monkeypatch.setattr(environment, "at_start", lambda: start)
    for name in now:
        monkeypatch.delenv(name)
    for name, value in {"KEPT": "9", "GONE": "2", "STAGE": "b", "SET": "c", "CKPTD_Y": "0"}.items():
        monkeypatch.setenv(name, value)
    environment.change(saved)
    assert dict(os.environ) == {"KEPT": "9", "STAGE": "a", "CKPTD_Y": "0", "NEW": "t\udcff", "OTHER": "5"}


def test_an_environment_that_was_written_over_is_not_taken_for_one(monkeypatch):
    def wiped():
        raise LookupError

    monkeypatch.setattr(environment, "at_start", wiped)
    assert "environ" not in settings.take()
    monkeypatch.setenv("CKPT_OTHER", "1")
    assert settings.put({"environ": [[b"CKPT_SET", b"2"]]}) == []
    assert (os.environ["CKPT_OTHER"], os.environ.pop("CKPT_SET")) == ("1", "2")


def test_loggers_that_are_not_there_are_made():
    name = f"settings.late.{time.monotonic_ns()}"
    assert name not in logging.root.manager.loggerDict
    saved = loggers.levels()
    saved[1].append([name, 37, True, False])
    loggers.set_levels(saved)
    late = logging.root.manager.loggerDict[name]
    assert isinstance(late, logging.Logger)
    assert (late.level, late.disabled, late.propagate) == (37, True, False)


def test_a_function_among_the_print_options_stays():
    function = "{:.1f}".format
    numpy.set_printoptions(formatter={"float": function})
    assert "formatter" not in settings.take()["numpy_print"]
    settings.put({"numpy_print": {**settings.take()["numpy_print"], "precision": 3}})
    assert numpy.get_printoptions()["formatter"] == {"float": function}
    numpy.set_printoptions(formatter=None)


def test_it_warns_of_nothing_wakes_no_device_and_takes_milliseconds():
    code = """if True:
        import time, torch
        from ckptd_agent import modes
        class Seen(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, function, types, args=(), kwargs=None):
                raise AssertionError(function)
        from torch.utils._python_dispatch import TorchDispatchMode
        class Dispatched(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                raise AssertionError(function)
        modes.take()
        with Dispatched(), Seen():
            began = time.perf_counter()
            for _ in range(10):
                modes.settings.take()
        assert time.perf_counter() - began < 0.1
        assert not torch.cuda.is_initialized()
        print(len(modes.settings.take()))
    """
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    assert int(ended.stdout) >= 20


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
@pytest.mark.parametrize(
    "change",
    [
        lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        lambda: torch._C._set_fp32_precision_setter("cuda", "conv", "ieee"),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    ],
    ids=["matmul", "conv", "old cudnn", "old matmul", "first name", "all"],
)
def test_precisions_come_back_by_whatever_name_they_were_set(change):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start, known = precision.of_backends(), told()
        try:
            change()
            saved, wanted = modes.take(), told()
            change_back(start)
            assert told() == known
            modes.put(saved)
            assert told() == wanted
        finally:
            change_back(start)


def told():
    """All that torch tells of precisions, or that it refuses to."""
    found = [precision.of_backends(), precision.matmul()]
    for owner in (torch.backends.cudnn, torch.backends.cuda.matmul):
        try:
            found.append(owner.allow_tf32)
        except RuntimeError:
            found.append(None)
    return found


def change_back(start):
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for each, known in zip(precision.BACKENDS, start, strict=True):
        torch._C._set_fp32_precision_setter(*each, known)


def test_a_checkpoint_of_an_older_version_has_no_settings(monkeypatch):
    monkeypatch.setattr(link, "send", lambda message: pytest.fail(str(message)))
    saved = modes.take()
    del saved["settings"]
    modes.put(saved)
