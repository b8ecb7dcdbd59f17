"""Garbage collection in small steps: a pass of Python's collector holds the loop while it looks at objects.

A pass over 100,000 objects takes 20 ms. Python begins one by the number of objects made less those freed. So
where old objects go as fast as new ones come, as with items of a catalogue, any number of new ones gathers
before a pass; and all that a worker imports, 200,000 objects, is looked at by every full pass.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from headrace.streams.timer import Timer

#: Objects until a pass, passes until one of the next older generation: where much is decoded at once and
#: nobody waits, and where replies wait. With steps as below, full passes are hours apart.
RARE, SMALL = (100_000, 50, 10_000), (10_000, 5, 10_000)
#: Time between two passes over what is new, s; every ``OLDER`` of them also looks at what the last ones left.
EVERY_S, OLDER = 0.25, 8
#: The same where no reply waits: a pass over what gathers in half a minute, 100,000 objects, held the loop of
#: `ingest`, `aggregate` and `learn` for 140 ms on a busy machine. And the share of the time that it may take.
SELDOM_S, SHARE = 1.0, 0.02


def set_up(*, small: bool) -> None:
    """Never look at the objects there are at the first call; from now on make rare passes, or small ones."""
    if not gc.get_freeze_count():
        gc.freeze()
    gc.set_threshold(*(SMALL if small else RARE))


def settle() -> None:
    """Look at everything once more, and never again: a worker has read what it answers with, and begins to.

    A full pass over a catalogue in memory holds the loop for 40 ms and more, hours later. Where passes are
    not small nobody waits for the loop, and nothing is done.
    """
    if gc.get_threshold() == SMALL:
        gc.collect()
        gc.freeze()


class SmallSteps(Timer):
    """Makes passes over what is new, again and again, so that none has much to look at.

    Parameters
    ----------
    every_s
        Time between two passes, s.
    share
        Most of the time that they may take, 0 to 1; after a long pass the next ones are left out.
    """

    def __init__(self, every_s: float = EVERY_S, share: float = 1.0, **kwargs: Any) -> None:
        self.steps = 0
        self._every_s, self._share, self._rest_s = every_s, share, 0.0
        super().__init__(every_s, **kwargs)

    def ring(self, late_s: float) -> None:
        """Make the next pass."""
        self._rest_s -= self._every_s
        if self._rest_s > 0:
            return
        began = time.perf_counter()
        self.steps += 1
        gc.collect(1 if self.steps % OLDER == 0 else 0)
        self._rest_s = (time.perf_counter() - began) * (1 / self._share - 1)
