"""When a recovery will be over: from how many records were left a while ago, and how many are now. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

#: The pace is that of so many readings: recovery is quick at first, while pages are in memory.
_KEPT: Final = 20
Key = TypeVar("Key")


class RestorePace(Generic[Key]):
    """Takes how many records each partition has left to read, again and again."""

    def __init__(self) -> None:
        self._seen: dict[Key, deque[tuple[float, int]]] = {}

    def take(self, left: Mapping[Key, int], now: float) -> None:
        """Take what is left, at ``now`` (monotonic seconds). What is not there any more is forgotten."""
        self._seen = {key: self._seen.get(key) or deque(maxlen=_KEPT) for key in left}
        for key, records in left.items():
            seen = self._seen[key]
            if seen and records > seen[-1][1]:  # another recovery has begun
                seen.clear()
            seen.append((now, records))

    def seconds(self, key: Key) -> float | None:
        """Return the time until nothing is left, s; None: not known, it is too new or stands still."""
        seen = self._seen.get(key)
        if not seen:
            return None
        (first_at, first), (at, left) = seen[0], seen[-1]
        if not left:
            return 0.0
        done = first - left
        return left * (at - first_at) / done if done > 0 else None
