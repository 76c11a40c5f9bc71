"""What the program does when all is over: the interpreter calls ``__del__`` after it has cleared its builtins."""

from __future__ import annotations

from harness import compare, run_ckptd, run_plain

SCRIPT = """\
import os


class Late:
    one = None

    def __init__(self):
        self.rows = [3, 1]

    def __del__(self):
        if self.rows:
            self.tell()

    def tell(self, write=os.write):
        for row in self.rows:
            if row > self.least():
                write(1, b"late %d\\n" % row)
        while len(self.rows) > self.least():
            self.rows.pop()
        write(1, b"left %d\\n" % len(self.rows))

    def least(self):
        return 1


class Ring:
    def __init__(self):
        self.me, self.late = self, Late()


held = Ring()
Late.one = Late()
for i in range(3):
    print("line", held.late.least(), flush=True)
"""


def test_objects_that_outlive_the_builtins_end_as_they_would(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    plain = run_plain([script], tmp_path / "plain")
    assert plain.stdout.count(b"late 3\nleft 1\n") == 2
    under = run_ckptd([script], tmp_path / "under", store=tmp_path / "store")
    assert compare(plain, under) == []
    assert [line for line in under.stderr.splitlines() if not line.startswith(b"ckptd: ")] == []
