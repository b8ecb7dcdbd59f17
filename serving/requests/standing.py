"""Whether a queue stands: requests wait for one another all the time, and waiting longer gains nothing. Pure.

A burst is soon over, and a queue is what it is for. When more is asked than can be answered in full, the
queue never empties: each list is begun as late as it may, and no more of them are full than with a short
queue. The shortest wait of a while tells the two apart (CoDel: Nichols and Jacobson, 2012).
"""

from __future__ import annotations

import math
from typing import Final

#: The shortest wait is that of the last one to two times so long, s.
_WHILE_S: Final = 0.25
#: The queue stands when even the shortest wait was longer than the first share of the deadline; it does so
#: until one was shorter than the second.
_STANDS, _EMPTY = 0.25, 0.05


class Standing:
    """Watches what share of its deadline each request had waited when its turn came.

    Attributes
    ----------
    stands
        Whether the queue stands.
    """

    def __init__(self) -> None:
        self._since = -math.inf
        self._least, self._before = math.inf, math.inf
        self.stands = False

    def add(self, share: float, now: float) -> None:
        """Note the turn of a request at ``now`` (monotonic seconds)."""
        if now - self._since >= _WHILE_S:
            # After a while without requests nothing is known of the time before.
            self._before = self._least if now - self._since < 2 * _WHILE_S else -math.inf
            self._since, self._least = now, math.inf
        self._least = min(self._least, share)
        shortest = min(self._least, self._before)
        self.stands = shortest > (_EMPTY if self.stands else _STANDS) and not math.isinf(self._before)
