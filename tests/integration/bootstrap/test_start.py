"""Which processes the agent starts in, and what sitecustomize does to the others: nothing."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from integration.bootstrap.interpreters import every, find
from integration.bootstrap.job import AGENT, BOOTSTRAP, Place, write
from integration.bootstrap.router import Router

NOBODY = "ipc:///nonexistent/socket"


@pytest.fixture(params=every())
def python(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name = str(request.param)
    return Place(tmp_path, name if "/" in name else str(find(name)))


def test_the_file_is_short_and_imports_nothing_but_the_standard_library() -> None:
    text = (BOOTSTRAP / "sitecustomize.py").read_text()
    assert len(text.splitlines()) < 60
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) == {"os", "sys", "importlib"}
    assert [path.name for path in BOOTSTRAP.iterdir() if path.name != "__pycache__"] == ["sitecustomize.py"]


# ---- the sitecustomize that is hidden -----------------------------------------------------------

HIDDEN = {
    "user": "import sys\nMARK = 'user'\nsys.stdout.write('mine\\n')\nassert __name__ == 'sitecustomize'\n",
    "raising": "raise ValueError('broken')\n",
    "import error": "import nothing_of_this_name\n",
    "itself": "raise ImportError('odd', name='sitecustomize')\n",
    "exit": "import sys\nsys.exit(7)\n",
    "syntax": "def\n",
    "none": "",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_hidden_sitecustomize_runs_as_without_us(python: Place, kind: str) -> None:
    if HIDDEN[kind]:
        write(python.libraries, {"sitecustomize.py": HIDDEN[kind]})
    script = python.write("x.py", "import sys\nmodule = sys.modules.get('sitecustomize')\n"
                          "print(getattr(module, 'MARK', None), sys.path[1:])\n")  # fmt: skip
    plain = python.run([script], python.plain())
    under = python.run([script], python.under(NOBODY))
    if kind == "exit":  # a fatal error of the interpreter's, with our frame in its report
        assert under[0] == plain[0] != 0
        assert b"SystemExit: 7" in plain[2]
        assert b"SystemExit: 7" in under[2]
    else:
        assert under == plain


def test_the_module_that_is_left_is_the_hidden_one_or_ours(place: Place) -> None:
    script = place.write("x.py", "import sitecustomize\nprint(sitecustomize.__file__)\n")
    shim = place.run([script], place.plain())[1].strip()
    mine = place.run([script], place.under(NOBODY))[1].strip()
    assert mine == (shim or str(BOOTSTRAP / "sitecustomize.py").encode())


def test_a_distribution_s_shim_is_run(place: Place) -> None:
    """Debian keeps one in the standard library's own folder; here it stands at the end of the path."""
    late = write(place.folder / "late", {"sitecustomize.py": "import sys\nsys.shim = True\n"})
    script = place.write("x.py", "import sys\nprint(sys.shim)\n")
    env = place.under(NOBODY)
    env["PYTHONPATH"] += os.pathsep + str(late)
    assert place.run([script], env) == (0, b"True\n", b"")


def test_ours_twice_on_the_path_is_once(place: Place) -> None:
    copy = place.folder / "copy" / "bootstrap"
    shutil.copytree(BOOTSTRAP, copy)
    env = place.under(NOBODY, CKPTD_DEBUG="1")
    env["PYTHONPATH"] = os.pathsep.join([str(BOOTSTRAP), str(copy), str(BOOTSTRAP) + "/", env["PYTHONPATH"]])
    script = place.write("x.py", "from ckptd_agent.source import finder\nprint(finder.SCRIPT)\n")
    status, out, err = place.run([script], env)
    assert (status, out) == (0, f"{script}\n".encode())
    assert err == b"ckptd: left alone: already started\n"


def test_run_again_by_the_program_it_does_nothing(place: Place) -> None:
    text = "import runpy, sys\nfrom ckptd_agent.source import finder\nfinder.SCRIPT = 'once'\n"
    text += (
        f"runpy.run_path({str(BOOTSTRAP / 'sitecustomize.py')!r})\nprint(finder.SCRIPT, len(sys.meta_path))\n"
    )
    script = place.write("x.py", text)
    before = place.run([place.write("y.py", "import sys\nprint(len(sys.meta_path))\n")], place.under(NOBODY))[
        1
    ]
    assert place.run([script], place.under(NOBODY)) == (0, b"once " + before, b"")


# ---- the gate -----------------------------------------------------------------------------------


def _left_alone(place: Place, words: list[str], env: dict[str, str]) -> bool:
    """Nothing of the agent's engine in the process, which prints its modules."""
    status, out, err = place.run(words, env)
    assert status == 0, err
    return b"ckptd_agent.source" not in out


@pytest.mark.parametrize(
    "change",
    [
        {"CKPTD_ENDPOINT": ""},
        {"CKPTD_JOB": ""},
        {"CKPTD_PYTHON": ""},
        {"CKPTD_PYTHON": "/another/prefix|3.11"},
        {"CKPTD_CLAIMED": "1"},
    ],
)
def test_without_a_job_or_in_another_interpreter_it_stays_out(python: Place, change: dict[str, str]) -> None:
    script = str(python.write("x.py", "import sys\nprint(sorted(sys.modules))\n"))
    assert not _left_alone(python, [script], python.under(NOBODY))
    assert _left_alone(python, [script], {**python.under(NOBODY), **change})


def test_helpers_are_left_alone(place: Place) -> None:
    env = place.under(NOBODY)
    show = "import sys\nprint(sorted(sys.modules))\n"
    pip = str(place.write("bin/pip", show))
    worker = str(place.write("torch/_inductor/compile_worker/__main__.py", show))
    assert _left_alone(place, ["-c", show], env)
    assert _left_alone(place, ["-uc", show], env)
    assert _left_alone(place, [pip], env)
    assert _left_alone(place, [worker], env)
    assert place.run(["-m", "pip", "--version"], {**env, "CKPTD_DEBUG": "1"})[2].startswith(
        b"ckptd: left alone"
    )


def test_a_process_that_never_imports_torch_stays_bare(place: Place, router: Router) -> None:
    text = (
        "import sys, os, signal, importlib.util\nimportlib.util.find_spec('torch')\n"
        "print('zmq' in sys.modules, os.listdir('/proc/self/task') == [str(os.getpid())],\n"
        "      signal.getsignal(15), 'CKPTD_CLAIMED' in os.environ, signal.signal.__module__)\n"
    )
    script = place.write("x.py", text)
    assert place.run([script], place.under(router.endpoint)) == (0, b"False True 0 False signal\n", b"")
    assert router.hear(0.2) is None


def test_an_agent_that_is_missing_or_broken_is_no_harm(python: Place) -> None:
    script = python.write("x.py", "print('fine')\n")
    empty = write(python.folder / "none", {"x": ""})
    broken = write(python.folder / "broken", {"ckptd_agent/__init__.py": "", "ckptd_agent/arm.py": "1 / 0\n"})
    leaving = write(python.folder / "exits", {"ckptd_agent/__init__.py": "raise SystemExit(3)\n"})
    for folder in (broken, leaving):
        env = python.under(NOBODY, CKPTD_AGENT_PATH=str(folder))
        assert python.run([script], env) == (0, b"fine\n", b"")
        status, out, err = python.run([script], {**env, "CKPTD_DEBUG": "1"})
        assert (status, out) == (0, b"fine\n")
        assert err.startswith(b"ckptd: the agent was not started: ")
        assert err.count(b"\n") == 1
    assert python.run([script], python.under(NOBODY, CKPTD_AGENT_PATH=str(empty)))[:2] == (0, b"fine\n")


def test_the_agent_is_found_from_where_the_bootstrap_lies(place: Place) -> None:
    """Beside it in a working tree, around it in an installed package; no entry of sys.path is left over."""
    script = place.write("x.py", "import sys, ckptd_agent\nprint(ckptd_agent.__path__[0], sys.path)\n")
    plain = place.run([place.write("y.py", "import sys\nprint(sys.path)\n")], place.plain())[1].decode()
    tree = place.under(NOBODY, CKPTD_AGENT_PATH="")
    assert place.run([script], tree)[1].decode() == f"{AGENT} {plain}"
    installed = place.agent / "ckptd_agent"
    shutil.copytree(BOOTSTRAP, installed / "bootstrap")
    wheel = {**tree, "PYTHONPATH": f"{installed / 'bootstrap'}:{place.libraries}"}
    assert place.run([script], wheel)[1].decode() == f"{installed} {plain}"


# ---- what a program and its children see --------------------------------------------------------


def test_pythonpath_keeps_one_entry_of_ours_and_all_of_the_user_s(python: Place) -> None:
    script = python.write("x.py", "import os\nprint(os.environ['PYTHONPATH'])\n")
    env = python.under(NOBODY)
    env["PYTHONPATH"] = f"{BOOTSTRAP}:a::b:{BOOTSTRAP}/:a"
    assert python.run([script], env)[1].decode() == f"{BOOTSTRAP}:a::b:a\n"


def test_no_pythonpath_at_all_is_no_error(place: Place) -> None:
    script = place.write(
        "x.py",
        f"import os, runpy\nrunpy.run_path({str(BOOTSTRAP / 'sitecustomize.py')!r})\n"
        "from ckptd_agent.source import finder\nprint('PYTHONPATH' in os.environ, finder.SCRIPT)\n",
    )
    env = place.under(NOBODY, CKPTD_DEBUG="1")
    del env["PYTHONPATH"]
    assert place.run([script], env) == (0, f"False {script}\n".encode(), b"")


def test_children_of_the_training_process_are_plain(place: Place, router: Router) -> None:
    """Even those that import torch themselves; and they do not carry the bootstrap on."""
    place.write(
        "child.py",
        "import os, sys, torch\nprint('ckptd_agent.link' in sys.modules, os.environ.get('PYTHONPATH'))\n",
    )
    script = place.write(
        "train.py",
        "import torch, subprocess, sys\n"
        "print(subprocess.check_output([sys.executable, 'child.py'], text=True), end='')\n",
    )
    expected = f"False {place.libraries}\n".encode()
    assert place.run([script], place.under(router.endpoint)) == (0, expected, b"")


def test_a_launcher_without_torch_is_passed_through(place: Place, router: Router) -> None:
    from ckptd.protocol import Hello

    place.write("child.py", "import torch\nfrom ckptd_agent import safepoint\nsafepoint.meet()\n")
    script = place.write(
        "launch.py", "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, 'child.py']))\n"
    )
    assert place.run([script], place.under(router.endpoint)) == (0, b"", b"")
    assert router.expect(Hello).argv[-1] == "child.py"


def test_after_an_exec_the_same_process_is_armed_again(place: Place, router: Router) -> None:
    from ckptd.protocol import Hello

    script = place.write(
        "train.py",
        "import os, sys, torch\n"
        "if len(sys.argv) == 1: os.execv(sys.executable, [sys.executable, sys.argv[0], 'again'])\n"
        "from ckptd_agent import safepoint\nsafepoint.meet()\n",
    )
    assert place.run([script], place.under(router.endpoint)) == (0, b"", b"")
    while router.expect(Hello).argv[-1] != "again":
        pass


# ---- import torch -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ["import torch", "from torch import nn", "import torch.nn", "import library", "__import__('torch')",
     "import importlib; importlib.import_module('torch.nn')"],
)  # fmt: skip
def test_any_way_of_importing_torch_arms_once(place: Place, router: Router, statement: str) -> None:
    write(place.libraries, {"library/__init__.py": "from torch.nn import LAYER\n"})
    text = (
        f"{statement}\nimport torch, sys\nfrom ckptd_agent import safepoint\n"
        "spec = torch.__spec__\nloader = spec.loader\n"
        "print(safepoint.INSTALLED, type(loader), vars(loader), torch.nn.LAYER)\n"
        "print(spec.name, spec.origin, loader is torch.__loader__, len(sys.meta_path))\n"
    )
    script = place.write("x.py", text)
    show = place.write(
        "y.py", text.replace("from ckptd_agent import safepoint", "class safepoint: INSTALLED = 1")
    )
    assert place.run([script], place.under(router.endpoint)) == place.run([show], place.plain())


def test_armed_from_a_thread_it_says_so_and_leaves_signals_alone(place: Place, router: Router) -> None:
    from ckptd.protocol import Said

    text = (
        "import threading, signal\nthread = threading.Thread(target=lambda: __import__('torch'))\n"
        "thread.start(); thread.join()\nprint(signal.getsignal(15), signal.set_wakeup_fd(-1))\n"
    )
    assert place.run([place.write("x.py", text)], place.under(router.endpoint)) == (0, b"0 -1\n", b"")
    assert "SIGTERM can't be taken over" in router.expect(Said).text


@pytest.mark.parametrize(
    "body",
    ["import nothing_here\n", "raise RuntimeError('no GPU')\n", "raise SystemExit(4)\n", "def\n", None],
)
def test_a_torch_that_can_not_be_imported_looks_as_without_us(python: Place, body: str | None) -> None:
    if body is None:
        shutil.rmtree(python.libraries / "torch")
    else:
        write(python.libraries, {"torch/__init__.py": body})
    script = python.write("x.py", "def load():\n    import torch\n\nload()\n")
    assert python.run([script], python.under(NOBODY)) == python.run([script], python.plain())


def test_a_second_try_after_a_failed_import_arms(place: Place, router: Router) -> None:
    write(
        place.libraries,
        {"torch/__init__.py": "import os\nif os.environ.pop('FAIL', None): raise ImportError('once')\n"},
    )
    text = (
        "try:\n    import torch\nexcept ImportError as error:\n    print(error)\nimport torch\n"
        "from ckptd_agent import safepoint\nprint(safepoint.INSTALLED)\n"
    )
    env = place.under(router.endpoint, FAIL="1")
    assert place.run([place.write("x.py", text)], env) == (0, b"once\n1\n", b"")


def test_without_zmq_the_program_runs_all_the_same(place: Place) -> None:
    write(place.libraries, {"zmq.py": "raise ImportError('no zmq')\n"})
    script = place.write("x.py", "import torch, signal\nprint(torch.VALUE, signal.getsignal(15))\n")
    assert place.run([script], place.under(NOBODY)) == (0, b"1 0\n", b"")
    status, out, err = place.run([script], place.under(NOBODY, CKPTD_DEBUG="1"))
    assert (status, out) == (0, b"1 0\n")
    assert b"ckptd: not armed: ImportError: no zmq\n" in err


# ---- python -m ckptd_agent ----------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["-I"], ["-E"], ["-P"] if sys.version_info >= (3, 11) else ["-B"]])
def test_the_explicit_way_runs_the_script_as_ever(place: Place, router: Router, flags: list[str]) -> None:
    """Here with the real finder, because it is what hands over the script."""
    place.write("beside.py", "NAME = 'beside'\n")
    text = (
        "import sys\nif '-P' not in sys.argv and '-I' not in sys.argv:\n    import beside\n"
        "print(__name__, __file__, __spec__, __package__, sys.argv, sys.path[:2], sorted(globals()))\n"
        "print(sys.modules['__main__'].__dict__ is globals())\nsys.exit(6)\n"
    )
    script = place.write("x.py", text)
    words = [str(script), "-q", *flags]
    plain = place.run([*flags, *words], place.plain())
    assert plain[0] == 6, plain
    env = place.under(router.endpoint, CKPTD_AGENT_PATH="")
    assert place.run([*flags, "-m", "ckptd_agent", *words], env) == plain
    assert place.run([*flags, "-m", "ckptd_agent", *words], place.plain()) == plain


def test_the_explicit_way_without_a_script_or_with_none_there(place: Place) -> None:
    status, out, err = place.run(["-m", "ckptd_agent"], place.plain())
    assert (status, out) == (2, b"")
    assert err == b"ckptd: no script was named: python -m ckptd_agent SCRIPT [ARGUMENTS]\n"
    missing = place.run(["-m", "ckptd_agent", "nothing.py"], place.under(NOBODY))
    assert missing == place.run(["nothing.py"], place.plain())
