"""How loud the loggers are; their handlers and filters are as the program makes them."""

from __future__ import annotations

import logging
from typing import Any


def _every() -> dict[str, logging.Logger]:
    """All loggers by name; the root, which is not in the table, by ''."""
    table = logging.root.manager.loggerDict.copy()  # a thread may make one meanwhile
    return {
        "": logging.root,
        **{name: each for name, each in table.items() if isinstance(each, logging.Logger)},
    }


def levels() -> list[Any]:
    """What is disabled for all, and the level and switches of each logger."""
    own = [[name, each.level, bool(each.disabled), bool(each.propagate)] for name, each in _every().items()]
    return [logging.root.manager.disable, sorted(own)]


def set_levels(saved: list[Any]) -> None:
    """Set them as they were; loggers that the program has not come to yet are made."""
    disable, own = saved
    if logging.root.manager.disable != disable:
        logging.disable(disable)
    for name, level, disabled, propagate in own:
        logger = logging.getLogger(name) if name else logging.root
        if logger.level != level:
            logging.Logger.setLevel(logger, level)  # past a setLevel of the program's, which may do more
        logger.disabled, logger.propagate = disabled, propagate
