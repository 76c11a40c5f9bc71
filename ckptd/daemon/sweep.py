"""Ending processes without the loop waiting for them."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ckptd.daemon.loop import Loop
from ckptd.daemon.processes import Tree, why_it_stays

_ROUND = 0.02
"""Seconds between looks."""
BOUND = 10.0
"""Seconds after which a process that SIGKILL doesn't end (uninterruptible sleep) is left."""


class Sweep:
    """Ends all processes of the job: SIGTERM first where asked for, then SIGKILL until none is left."""

    def __init__(self, loop: Loop, tree: Tree, reap: Callable[[], None], say: Callable[[str], None]) -> None:
        """``reap`` collects children that have ended, ``say`` tells the user of those that don't."""
        self._loop, self._tree, self._reap, self._say = loop, tree, reap, say
        self._kill_at = 0.0
        self._give_up_at = 0.0
        self._then: Callable[[], None] = lambda: None
        self._turn = 0

    def begin(self, gentle: float, then: Callable[[], None]) -> None:
        """Start; ``then`` is called when none is left. SIGKILL comes after ``gentle`` seconds.

        A sweep that is under way is replaced, and what should have followed it is not called.
        """
        now = self._loop.now()
        self._kill_at, self._give_up_at, self._then = now + gentle, now + gentle + BOUND, then
        self._turn += 1
        if gentle > 0:
            self._tree.signal(signal.SIGTERM)
            self._tree.signal(signal.SIGCONT)  # a stopped process would sit on its SIGTERM
        self._look()

    def _look(self) -> None:
        now = self._loop.now()
        turn = self._turn
        self._reap()  # what is found there may begin another sweep
        if turn != self._turn:
            return
        left = self._tree.signal(signal.SIGKILL) if now >= self._kill_at else len(self._tree.living())
        if left and now < self._give_up_at:
            self._loop.after("sweep", _ROUND, self._look)
        else:
            self._loop.cancel("sweep")
            if left:
                stay = "; ".join(map(why_it_stays, self._tree.living()))
                self._say(f"not ended by SIGKILL in {BOUND:g} s, and left behind: {stay}")
            self._then()
