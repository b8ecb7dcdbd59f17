"""Reads rows of the online store for requests, and says what replies lack when it does not answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.models.state import neighbours, shown, users
from headrace.serving.stages import Stages
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.protocol import Kind, OnlineStore
from headrace.streams.errors import UnavailableError
from headrace.streams.tables.rows import unpack

log = logging.getLogger(__name__)

Found: TypeAlias = list[npt.NDArray[Any] | None]

#: What a reply says in ``degraded`` when rows are missing or may be old: of the user, of what was shown.
_OF_USER: Final[dict[Kind, str]] = {"u": "user", "s": "shown"}
_NEIGHBOURS: Final = "neighbours"
_LACKING: Final[dict[Kind, str]] = {**_OF_USER, "n": _NEIGHBOURS}
_DTYPES: Final[dict[Kind, np.dtype[Any]]] = {"u": users.ROW, "s": shown.ROW, "n": neighbours.ROW}
_BLANK: Final = neighbours.BLANK.tobytes()


class OnlineRows:
    """Rows of the online store, unpacked.

    Parameters
    ----------
    store
        The online store.
    freshness
        Which of its rows may be old.
    stages
        Gets the time that reading and unpacking take.
    """

    def __init__(self, store: OnlineStore, freshness: Freshness, stages: Stages) -> None:
        self._store, self._freshness, self._stages = store, freshness, stages
        self._down = False

    async def read(self, kind: Kind, keys: Sequence[int]) -> tuple[Found, list[str]]:
        """Read rows.

        Returns
        -------
        rows, degraded
            For each key an array ``(1,)``, or None; and what the reply says in ``degraded``: a list of one
            name when the store did not answer, else empty.
        """
        (rows,), lacking = await self.read_several([(kind, keys)])
        return rows, lacking

    async def read_several(
        self, wanted: Sequence[tuple[Kind, Sequence[int]]]
    ) -> tuple[list[Found], list[str]]:
        """Read rows of several kinds in one round trip; return those of each, and ``degraded``."""
        stages = self._stages
        asked = stages.clock()
        try:
            packed = await self._store.get_several(wanted)
        except UnavailableError as exc:
            log.log(
                logging.DEBUG if self._down else logging.WARNING,
                "answering without the online store: %s",
                exc,
                extra={"action": "store_down"},
            )
            self._down = True
            return [[None] * len(keys) for _, keys in wanted], [_LACKING[kind] for kind, _ in wanted]
        self._down = False
        stages.waited("store", stages.clock() - asked)
        stages.begin()
        found: list[Found] = []
        for (kind, _), some in zip(wanted, packed, strict=True):
            rows, there = unpack(some, _DTYPES[kind])
            found.append([rows[i : i + 1] if there[i] else None for i in range(len(rows))])
        stages.done("rows")
        return found, []

    def outdated(self, partition: int, anchors: Sequence[int]) -> list[str]:
        """Return what the store may have no or old rows of: of the users of a partition, of the anchors."""
        stale = self._freshness.stale
        out = [name for kind, name in _OF_USER.items() if partition in stale[kind]]
        if stale["n"] and anchors:
            out.append(_NEIGHBOURS)
        return out


def stacked(items: Sequence[int], rows: dict[int, npt.NDArray[Any] | None]) -> npt.NDArray[np.void]:
    """Return the neighbour rows of items as one array ``(n,)``; blank ones of those without."""
    found = [_BLANK if (row := rows.get(item)) is None else row.tobytes() for item in items]
    return np.frombuffer(b"".join(found), neighbours.ROW)
