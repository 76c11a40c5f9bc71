"""What a variable that is gone says of itself."""

import threading

import pytest

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Gone, GoneError, Graft
from ckptd_agent.state import kinds  # noqa: F401 - registers them


class Own(int):
    """Of a class that the resume has not made: see ``gone``."""


def gone(value):
    """What stands for a value whose class is not there."""
    capture = Capture()
    child = capture.child(value)
    capture.run()
    for node in capture.nodes:
        if node[0] == "class":
            node[2] = f"away.{node[2]}"
    return Graft(capture.nodes, None).variable(child)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Own(3), f"{__name__}.away.Own"),
        (threading.Lock(), "_thread.lock"),
        (type("Error", (Exception,), {"__module__": __name__})("x"), f"{__name__}.away.Error"),
    ],
)
def test_its_type_is_named(value, name):
    back = gone(value)
    assert type(back) is Gone
    with pytest.raises(GoneError, match=rf"an object of type {name}, which"):
        back.anything  # noqa: B018 - it is asked for that it fails
