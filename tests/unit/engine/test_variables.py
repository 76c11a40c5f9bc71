"""A frame that was read is as before."""

from __future__ import annotations

import sys
import weakref

from ckptd_agent.loops import variables


class Thing:
    pass


def test_what_is_read():
    a, b = 1, [2]
    found = variables.read(sys._getframe())
    assert found == {"a": a, "b": b}


def test_what_is_deleted_is_gone():
    thing = Thing()
    seen = weakref.ref(thing)
    assert variables.read(sys._getframe())["thing"] is thing
    del thing
    assert seen() is None


def test_a_variable_of_an_inner_function_too():
    thing = Thing()
    seen = weakref.ref(thing)

    def inner():
        return thing  # noqa: F821 - it is deleted below

    found = variables.read(sys._getframe())
    assert found["thing"] is inner()
    del found, thing
    assert seen() is None


def test_what_locals_gave_stays_as_it_was():
    a = 1
    given = locals()
    given["own"] = 3
    b = 2
    assert variables.read(sys._getframe())["b"] == b
    assert set(given) == {"a", "own"}
    assert given["a"] == a
    if sys.version_info < (3, 13):
        assert locals() is given  # the interpreter's own way, unchanged
        assert given["b"] == b


def test_a_module_and_a_class_body():
    class Body:
        value = 1
        seen = variables.read(sys._getframe())
        later = 2

    assert Body.seen["value"] == 1
    assert Body.later == 2
    namespace: dict[str, object] = {"sys": sys, "variables": variables}
    exec("x = 1\nfound = variables.read(sys._getframe())", namespace)
    assert namespace["x"] == 1
