import ast
import re

from ckptd import states


def test_imports_nothing():
    with open(states.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_every_state_is_explained():
    constants = {value for name, value in vars(states).items() if name.isupper() and isinstance(value, str)}
    assert constants == states.ALL == set(states.TRANSITIONS)
    explained = set(re.findall(r"^([A-Z]{3,})  ", states.__doc__, re.MULTILINE))
    assert {name.lower() for name in explained} >= states.ALL


def test_each_live_state_leads_to_an_end_and_no_end_leads_on():
    for state in states.LIVE:
        reached: set[str] = set()
        todo = [state]
        while todo:
            for following in states.TRANSITIONS[todo.pop()] - reached:
                reached.add(following)
                todo.append(following)
        assert states.OVER & reached
    for state in states.OVER:
        assert not states.TRANSITIONS[state]


def test_allowed():
    assert states.allowed(states.NEW, states.CHECKING)
    assert not states.allowed(states.FINISHED, states.RUNNING)
