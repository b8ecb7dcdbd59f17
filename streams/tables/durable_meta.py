"""Which values of meta records the changelog is known to have."""

from __future__ import annotations

from collections.abc import Mapping


class DurableMeta:
    """Keeps, for meta records that were set since, the values that the changelog has.

    Parameters
    ----------
    meta
        The present values; others change it.
    """

    def __init__(self, meta: Mapping[bytes, bytes]) -> None:
        self._meta = meta
        self._known: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value that the changelog is known to have; None for none."""
        return self._known[key] if key in self._known else self._meta.get(key)

    def setting(self, key: bytes) -> None:
        """Note that a record is about to be set."""
        self._known.setdefault(key, self._meta.get(key))

    def written(self, records: Mapping[bytes, bytes]) -> None:
        """Note that the changelog has these values; some may have been set to others since."""
        for key, value in records.items():
            if self._meta.get(key) == value:
                self._known.pop(key, None)
            elif key in self._known:
                self._known[key] = value

    def clear(self) -> None:
        """Note that the changelog has nothing."""
        self._known.clear()
