"""Exceptions that a program keeps come back as they were, but for their tracebacks."""

import builtins
import errno
import sys
from typing import Any

import pytest

from ckptd_agent.state import raised

ExceptionGroup: Any = getattr(builtins, "ExceptionGroup", None)  # Python 3.10 has none
BaseExceptionGroup: Any = getattr(builtins, "BaseExceptionGroup", None)


class Plain(Exception):
    again: "Plain"
    group: object


class Strict(ValueError):
    """Its __init__ takes other arguments than Exception's, and must not run again."""

    ran = 0

    def __init__(self, number, *, reason):
        type(self).ran += 1
        super().__init__(f"{number}: {reason}")
        self.number, self.reason = number, reason


class Picky(Exception):
    key: str

    def __new__(cls, *, key):
        self = super().__new__(cls, key)
        self.key = key
        return self

    def __init__(self, *, key):
        super().__init__(key, "picked")


class Slotted(Exception):
    __slots__ = ("code",)
    code: list[int]


class Both(ValueError, OSError):
    pass


class Missing(KeyError, AttributeError):
    pass


class Renamed(Exception):
    """Its args are not those of BaseException."""

    args = property(lambda self: ("other",))


NONE: Any = None


def of(function, *args):
    """What the function raises."""
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001 - all of them
        return error
    raise AssertionError("it raised nothing")


def slotted():
    error = Slotted("x")
    error.code = [7]
    return error


def written():
    error = BlockingIOError(errno.EAGAIN, "busy", 12)
    assert error.characters_written == 12
    return error


KEPT = [
    Plain(), Plain("a", 1), Strict(3, reason="big"), Picky(key="k"), slotted(), Renamed("own"), ValueError("täxt"),
    KeyError("k"), OSError(), OSError("text"), OSError(2, "gone"), OSError(2, "gone", "a"),
    OSError(18, "link", "a", None, "b"), OSError(None, "none"), OSError(2, None), Both(2, "gone", "b"), Missing("m"),
    written(), of(open, "/nowhere/at/all"), of(b"\xff".decode), of("ü".encode, "ascii"), UnicodeError("u"),
    of(compile, "a b = 1", "f.py", "exec"), SyntaxError("plain"), IndentationError("deep", ("f.py", 3, 4, "  x")),
    StopIteration(), StopIteration([1]),
    SystemExit(), SystemExit(3), SystemExit("sentence"), of(__import__, "nowhere_at_all"),
    ImportError("i", name="n", path="p"), of(getattr, "text", "nothing"), AttributeError("a", name="n", obj=[1]),
    of(eval, "nothing_at_all"), KeyboardInterrupt(), MemoryError(), AssertionError(1, {"a": [2]}), of(int, "x"),
]  # fmt: skip


def seen(error):
    """All that a program can see of an exception but its traceback."""
    fields = raised._fields(type(error))
    own = {name: raised._field(error, field) for name, field in fields.items() if name != "obj"}
    return type(error), raised._OWN["args"].__get__(error), str(error), repr(error), vars(error), own


def name_of(error):
    return f"{type(error).__name__}-{error.args}"[:30]


@pytest.mark.parametrize("error", KEPT, ids=name_of)
def test_an_exception_is_made_with_all_that_it_had(over, error):
    ran = Strict.ran
    back = over([error])[0]
    assert back is not error
    assert seen(back).__repr__() == seen(error).__repr__()
    assert back.__traceback__ is None
    assert Strict.ran == ran


@pytest.mark.parametrize("error", KEPT, ids=name_of)
def test_one_that_the_program_has_made_again_is_filled(over, error):
    fresh = (
        of(open, "/nowhere/else") if isinstance(error, FileNotFoundError) else raised._new(type(error), NONE)
    )
    fresh.stale = True
    back = over([error], [fresh])[0]
    assert back is fresh
    assert seen(back).__repr__() == seen(error).__repr__()


def test_a_fresh_one_keeps_its_traceback_and_loses_what_the_saved_one_has_not(over):
    fresh = of(open, "/nowhere/else")
    trace = fresh.__traceback__
    back = over([FileNotFoundError("no fields")], [fresh])[0]
    assert back is fresh
    assert back.__traceback__ is trace
    assert (str(back), back.errno, back.filename) == ("no fields", None, None)


def chained():
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Strict(1, reason="second") from error
    except Strict as error:
        return error


def within():
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise Plain("second")  # noqa: B904 - it is the context that is meant
    except Plain as error:
        return error


@pytest.mark.parametrize("make", [chained, within])
def test_what_it_came_of_comes_along(over, make):
    error = make()
    back = over([error])[0]
    assert repr(back.__cause__) == repr(error.__cause__)
    assert repr(back.__context__) == repr(error.__context__) == "KeyError('first')"
    assert back.__suppress_context__ is error.__suppress_context__
    assert (back.__cause__ is back.__context__) == (error.__cause__ is error.__context__)


def test_a_cause_that_was_taken_back_is_taken_back(over):
    saved = Plain("x")
    back = over([saved], [of(lambda: (_ for _ in ()).throw(chained()))])[0]
    assert (back.__cause__, back.__context__, back.__suppress_context__) == (None, None, False)


def test_an_exception_that_leads_to_itself(over):
    holder: dict[str, list[Plain]] = {"errors": []}
    error = Plain(holder, "x")
    holder["errors"].append(error)
    error.again = error
    error.__context__ = other = ValueError(error)
    back = over([error])[0]
    assert back.again is back
    assert back.args[0]["errors"][0] is back
    assert back.__context__.args[0] is back
    assert other.args[0] is error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no notes in this Python")
def test_notes_come_back(over):
    error = Plain("x")
    error.add_note("a note")
    assert over([error])[0].__notes__ == ["a note"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no groups in this Python")
def test_groups_come_back_with_their_members(over):
    inner = Plain("inner")
    group = ExceptionGroup("outer", [inner, ExceptionGroup("deep", [KeyError("k"), OSError(2, "gone", "f")])])
    inner.group = group
    group.tag = [1]
    back, alone = over([group, inner], [ExceptionGroup("fresh", [Plain("other")]), None])
    assert repr(back) == repr(group)
    assert (back.message, back.args[0], back.tag) == ("outer", "outer", [1])
    assert back.exceptions[0] is alone
    assert alone.group is back
    assert str(back.exceptions[1].exceptions[1]) == "[Errno 2] gone: 'f'"
    assert type(over([BaseExceptionGroup("b", [KeyboardInterrupt()])])[0]) is BaseExceptionGroup


def test_many_exceptions(over):
    errors = [Strict(i, reason=str(i)) for i in range(100)]
    back = over(errors)
    assert [(str(each), each.number) for each in back] == [(str(each), each.number) for each in errors]
