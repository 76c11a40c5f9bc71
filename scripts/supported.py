"""Write the tables of docs/supported.md from the programs that show them; with ``--check``, say whether they are right.

Each program under tests/programs is stopped at many moments by tests/integration/test_programs.py and must end as
if left alone; each under tests/programs/refused must be refused with the sentence at the end of its docstring.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "supported.md"
PROGRAMS = ROOT / "tests" / "programs"
PARTS = {"sums"}
"""What programs import."""


def docstring(path: Path) -> str:
    """A program's docstring on one line; SystemExit if it has none."""
    found = ast.get_docstring(ast.parse(path.read_text()))
    if not found:
        raise SystemExit(f"{path} has no docstring")
    return " ".join(found.split())


def carried() -> list[str]:
    """One row for each program that is carried over."""
    paths = [path for path in sorted(PROGRAMS.glob("*.py")) if path.stem not in PARTS]
    paths.append(PROGRAMS / "pack" / "train.py")
    rows = [f"| {docstring(path).rstrip('.')} | {link(path)} |" for path in paths]
    return ["| what | shown by |", "|---|---|", *rows]


def refused() -> list[str]:
    """One row for each program that is refused, with its sentence."""
    rows = ["| what | what ckptd says | shown by |", "|---|---|---|"]
    for path in sorted(PROGRAMS.glob("refused/*.py")):
        what, _, sentence = docstring(path).partition(" Refused: ")
        rows.append(f"| {what.rstrip('.')} | {sentence} | {link(path)} |")
    return rows


def link(path: Path) -> str:
    """A link from docs/ to a program."""
    return f"[{path.stem}](../{path.relative_to(ROOT)})"


def with_tables(page: str) -> str:
    """The page with its tables made anew, each between its two marks."""
    for name, rows in (("carried", carried()), ("refused", refused())):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = page.partition(begin)
        page = "\n".join([head + begin, *rows, end]) + rest.partition(end)[2]
    return page


def main() -> None:
    page = PAGE.read_text()
    made = with_tables(page)
    if "--check" in sys.argv:
        if made != page:
            raise SystemExit("docs/supported.md is not what the programs show: run scripts/supported.py")
        return
    PAGE.write_text(made)


if __name__ == "__main__":
    main()
