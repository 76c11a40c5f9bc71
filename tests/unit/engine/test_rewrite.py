"""A rewritten program does what the plain one does, and knows where it is."""

import sys
import threading
import traceback

import pytest

from ckptd_agent.loops import hooks
from ckptd_agent.loops import record as r
from ckptd_agent.source import finder, table

CONTROL_FLOW = {
    "return in nested loops": """
        def find(rows, wanted):
            for i, row in enumerate(rows):
                for j, cell in enumerate(row):
                    if work(cell) == wanted:
                        return i, j
            else:
                out("not found")
            return None
        out(find([[1, 2], [3, 4]], 4), find([[1]], 9))
    """,
    "else of for and while": """
        for n in range(4):
            for k in range(n):
                if work(k) == 2:
                    break
            else:
                out("no break", n)
                continue
            out("break", n)
        k = 0
        while work(k) < 3:
            k += 1
            if k == 7:
                break
        else:
            out("exhausted", k)
    """,
    "break and continue in an else clause": """
        for a in range(3):
            for b in range(2):
                work(b)
            else:
                if a == 1:
                    break
                continue
            out("never")
        out(a, b)
    """,
    "try and finally around and inside": """
        def risky(n):
            for i in range(n):
                try:
                    work(i)
                    if i == 2:
                        raise ValueError(i)
                    if i == 1:
                        continue
                finally:
                    out("finally", i)
            return "done"
        try:
            out(risky(2))
            out(risky(5))
        except ValueError as error:
            out("caught", error)
    """,
    "a return that a finally overrides": """
        def odd():
            for i in range(3):
                try:
                    return work(i)
                finally:
                    for j in range(2):
                        work(j)
                    if i < 1:
                        continue
            return "end"
        out(odd())
    """,
    "unpacking targets": """
        class Box: pass
        box, cells = Box(), [0, 0]
        for box.a, (cells[1], *rest) in [(1, (2, 3, 4)), (5, (6,))]:
            out(work(box.a), cells, rest)
    """,
    "recursion": """
        def walk(tree, depth=0):
            for child in tree:
                out(depth, work(len(child)))
                walk(child, depth + 1)
        walk([[[], []], [[]]])
    """,
    "while with a walrus": """
        items = [3, 2, 0]
        while (n := work(items.pop(0))):
            out(n)
    """,
    "iterator shared by two loops": """
        it = iter(range(6))
        for a in it:
            out("outer", work(a))
            for b in it:
                out("inner", work(b))
                if b == 2:
                    break
    """,
    "objects without __iter__ on the iterator": """
        class Countdown:
            def __init__(self): self.n = 3
            def __iter__(self): return Ticker(self.n)
        class Ticker:
            def __init__(self, n): self.n = n
            def __iter__(self): return self
            def __next__(self):
                if not self.n: raise StopIteration
                self.n -= 1
                return self.n
        for n in Countdown():
            out(work(n))
    """,
    "names that a program can see": """
        def f():
            for x in range(1):
                work(x)
            return sorted(locals())
        for y in range(1):
            work(y)
        out(f(), sorted(n for n in dir() if not n.startswith("__")))
    """,
    "class bodies, lambdas, comprehensions and generators": """
        class C:
            for z in range(2):
                work(z)
            total = sum(work(i) for i in range(3))
        def gen():
            for i in range(3):
                yield work(i)
        out(C.z, C.total, [work(v) for v in gen()], (lambda: [work(q) for q in range(2)])())
    """,
}


def run(text, *, rewritten):
    import textwrap

    printed = []
    source = textwrap.dedent(text)
    code = (
        finder.compile_user("program", "program.py", source.encode())
        if rewritten
        else compile(source, "program.py", "exec")
    )
    exec(
        code,
        {"__name__": "program", "out": lambda *a: printed.append(" ".join(map(str, a))), "work": lambda x: x},
    )
    return printed


@pytest.fixture(autouse=True, scope="module")
def _hooks():
    hooks.install()


@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow_is_as_plain(name):
    plain = run(CONTROL_FLOW[name], rewritten=False)
    assert plain
    assert run(CONTROL_FLOW[name], rewritten=True) == plain
    assert r.stack == [r.root]


def test_tracebacks_read_as_plain():
    text = "def f(rows):\n    for row in rows:\n        work(\n            row[\n                1])\n"
    text += "for x in [1]:\n    f([[0]])\n"
    told = []
    for rewritten in (False, True):
        try:
            run(text, rewritten=rewritten)
        except IndexError as error:
            told.append(traceback.format_exception(error)[2:])
    assert told[0] == told[1]
    assert "line 4" in "".join(told[0])


def test_what_is_not_iterable_is_said_as_plain():
    with pytest.raises(TypeError, match="'int' object is not iterable") as caught:
        run("for x in 5:\n    work(x)\n", rewritten=True)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].filename == "program.py"
    assert r.stack == [r.root]


def test_an_exception_leaves_no_record_behind():
    with pytest.raises(ZeroDivisionError):
        run(
            "def f():\n    for x in range(3):\n        while work(1):\n            1 / 0\nf()\n",
            rewritten=True,
        )
    assert r.stack == [r.root]


def test_loops_of_other_threads_are_not_counted():
    printed = []
    text = "for x in range(3):\n    work(x)\nelse:\n    out(x)\n"
    thread = threading.Thread(target=lambda: printed.extend(run(text, rewritten=True)))
    thread.start()
    thread.join()
    assert printed == ["2"]
    assert r.stack == [r.root]


def test_counts_and_ordinals():
    where = []

    def work(_):
        where.append(
            [(table.LOOPS[each[r.LOOP]].key[1], each[r.ORDINAL], r.count(each)) for each in r.stack[1:]]
        )

    text = "def f(n):\n    for x in range(n):\n        work(x)\nfor e in range(2):\n    f(1)\n    f(2)\n"
    exec(finder.compile_user("counted", "counted.py", text.encode()), {"work": work})
    once = [[(2, 0, 1), (1, 0, 1)], [(2, 0, 1), (1, 1, 1)], [(2, 0, 1), (1, 1, 2)]]
    assert where[:3] == once
    assert where[3:] == [[(2, 0, 2), *rest] for (_, *rest) in once]


def test_a_loop_of_builtin_calls_only_is_left_alone():
    before = len(table.LOOPS)
    finder.compile_user("plain_loops", "p.py", b"xs = []\nfor i in range(9):\n    xs.append(str(i))\n")
    assert len(table.LOOPS) == before


def test_forward_and_what_it_calls_is_left_alone():
    before = len(table.LOOPS)
    text = (
        "class Net(Module):\n"
        "    def forward(self, x):\n        for layer in self.layers:\n            x = layer(x)\n"
        "        return self.head(x)\n"
        "    def head(self, x):\n        for layer in self.more:\n            x = layer(x)\n        return x\n"
        "    def fit(self, data):\n        for x in data:\n            self.forward(x)\n"
    )
    finder.compile_user("nets", "nets.py", text.encode())
    assert [loop.function for loop in table.LOOPS[before:]] == ["fit"]


def test_code_that_nests_too_deeply_runs_all_the_same():
    depth = 18
    text = (
        "".join("    " * d + f"for a{d} in range(1):\n" for d in range(depth))
        + "    " * depth
        + "out(work(a0))\n"
    )
    assert run(text, rewritten=True) == ["0"]


def test_a_module_with_a_syntax_error_says_so_as_plain():
    with pytest.raises(SyntaxError) as caught:
        finder.compile_user("broken", "broken.py", b"for x in:\n    pass\n")
    assert (caught.value.filename, caught.value.lineno) == ("broken.py", 1)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="calls are found by column from 3.11 on")
def test_what_waits_below_a_call():
    text = "total += train()\nprint(train(), test())\nx = train(1)\nlog.add(train())\nprint(name, train())\n"
    text = "def train(n=0):\n    for i in range(n):\n        work(i)\ntest = train\n" + text
    finder.compile_user("operands", "operands.py", text.encode())
    calls = table.SOURCES["operands"].calls
    below = {
        (line, call.span[1]): (call.below, bool(call.statement))
        for line, found in calls.items()
        for call in found
    }
    assert below[5, 9] == (table.NAMES, True)
    assert below[6, 6] == (table.CLEAN, False)
    assert below[6, 15][0] == table.DIRTY
    assert below[7, 4] == (table.CLEAN, False)
    assert below[8, 8] == (table.NAMES, True)
    assert below[9, 12] == (table.NAMES, True)
