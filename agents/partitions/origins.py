"""Records that were sent on from wrong partitions: each is applied once. Pure.

A record may be sent on twice, when the worker that does it crashes between sending and committing. The
records of one wrong partition arrive in the order of their offsets there, so the last offset of each is
enough to recognise those that come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headrace.streams.topics.placement import Origin

#: Key prefix of the meta records: then the topic and partition that a record was sent on from.
MARK = b"from:"


@lru_cache(maxsize=4096)  # a header may name any topic
def mark_key(topic: str, partition: int) -> bytes:
    """Return the key of the meta record of a wrong partition."""
    return MARK + f"{topic}/{partition}".encode()


class Origins:
    """The last offset applied of every wrong partition.

    Parameters
    ----------
    meta
        Meta records of the partition's changelog.
    """

    def __init__(self, meta: Mapping[bytes, bytes]) -> None:
        self._last: dict[str, dict[int, int]] = {}  # what ``last`` returned, until a mark moves
        self._marks = {
            key: int.from_bytes(value, "little", signed=True)
            for key, value in meta.items()
            if key.startswith(MARK)
        }

    def fresh(self, origin: Origin) -> bool:
        """Return whether the record from ``origin`` was not applied yet; note that it is now."""
        key = mark_key(origin.topic, origin.partition)
        if origin.offset <= self._marks.get(key, -1):
            return False
        self._marks[key] = origin.offset
        self._last.clear()
        return True

    def fresh_ones(
        self, topic: str, partitions: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return ``fresh`` of records from one topic, bool ``(n,)``, in the order they arrived."""
        fresh = np.ones(len(offsets), np.bool_)
        order = np.argsort(partitions, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(partitions[order])) + 1):
            if not len(places):
                break
            key = mark_key(topic, int(partitions[places[0]]))
            before = np.maximum.accumulate(np.append(self._marks.get(key, -1), offsets[places]))
            fresh[places] = offsets[places] > before[:-1]
            self._marks[key] = int(before[-1])
            self._last.clear()
        return fresh

    def last(self, topic: str) -> dict[int, int]:
        """Return the last offset applied of every wrong partition of a topic."""
        if topic not in self._last:
            start = mark_key(topic, 0)[:-1]
            ours = {key[len(start) :]: mark for key, mark in self._marks.items() if key.startswith(start)}
            self._last[topic] = {int(number): mark for number, mark in ours.items() if number.isdigit()}
        return self._last[topic]

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the meta records."""
        for key, mark in self._marks.items():
            yield key, mark.to_bytes(8, "little", signed=True)
