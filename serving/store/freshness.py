"""Says which rows in the online store may be missing or old, from the beats of their writers."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from headrace.serving.store.applied import Applied, Known, decode
from headrace.serving.store.protocol import BEAT_S, Kind, OnlineStore
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import UnavailableError

log = logging.getLogger(__name__)

#: Time between two looks at the beats.
LOOK_S = 1.0

_ROWS: dict[Kind, str] = {"u": "users", "s": "what users were shown", "n": "neighbours", "i": "items"}


class Freshness:
    """The beats in the online store, as of the last ``look``. No request waits for them.

    Parameters
    ----------
    store
        The online store.
    partitions
        Number of partitions of each kind of rows to look at.
    clock
        Time.

    Attributes
    ----------
    stale
        By kind, the partitions whose rows may be missing or old; none before the first ``look``.
    known
        What the beats say beside, and which records of `items` this process has.
    """

    def __init__(self, store: OnlineStore, partitions: Mapping[Kind, int], clock: Clock = SYSTEM) -> None:
        self._store = store
        self.partitions = dict(partitions)
        self._clock = clock
        self._looked: dict[Kind, float] = {}
        self.stale: dict[Kind, frozenset[int]] = {kind: frozenset() for kind in partitions}
        self.known = Known()

    async def look(self) -> None:
        """Read the beats. When that fails, the last ones count until they would have expired."""
        for kind, count in self.partitions.items():
            every = frozenset(range(count))
            try:
                beating = await self._store.beats(kind, range(count))
            except UnavailableError:
                if self._clock.monotonic() - self._looked.get(kind, -BEAT_S) >= BEAT_S:
                    self._note(kind, every)
            else:
                self._looked[kind] = self._clock.monotonic()
                if kind == "u":
                    self._heard(beating)
                self._note(kind, every - beating.keys())

    async def ask(self, partitions: Collection[int]) -> dict[int, Applied]:
        """Return what the beats of some partitions of users say now; those that say nothing are left out.

        Raises
        ------
        UnavailableError
            When the store does not answer.
        """
        return self._heard(await self._store.beats("u", sorted(partitions)))

    def _heard(self, beats: Mapping[int, bytes]) -> dict[int, Applied]:
        said = {n: applied for n, text in beats.items() if (applied := decode(text)) is not None}
        self.known.users |= said
        return said

    def _note(self, kind: Kind, stale: frozenset[int]) -> None:
        if stale and not self.stale[kind]:
            log.warning(
                "rows of %s in the online store may be missing or old, of partitions %s: replies say so",
                _ROWS[kind],
                sorted(stale),
                extra={"action": "store_stale", "kind": kind},
            )
        elif self.stale[kind] and not stale:
            text = "rows of %s in the online store are up to date again"
            log.info(text, _ROWS[kind], extra={"action": "store_fresh", "kind": kind})
        self.stale[kind] = stale
