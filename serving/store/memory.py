"""The online store in a dictionary, for tests and tools."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from headrace.serving.store.applied import PLAIN
from headrace.serving.store.buckets import Buckets
from headrace.serving.store.protocol import BEAT_S, Keys, Kind
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import UnavailableError
from headrace.streams.tables.rows import PackedRows


class MemoryStore:
    """An online store in memory. Rows do not expire; an outage, a loss and a restart can be simulated.

    Parameters
    ----------
    clock
        Beats expire by it.

    Attributes
    ----------
    away
        True: every call raises ``UnavailableError``.
    read_only
        True: every call that writes raises ``UnavailableError``.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._beats: dict[tuple[Kind, int], tuple[float, bytes]] = {}
        self._rows: dict[tuple[Kind, int], bytes] = {}
        self._marks: dict[tuple[Kind, int], tuple[str, int]] = {}
        self._buckets = Buckets()
        self._run_id = secrets.token_hex(8)
        self._seen: dict[Kind, str] = {}  # run id when the marks of a kind were read last
        self.away = self.read_only = False

    def lose(self) -> None:
        """Delete all data, as ``FLUSHALL`` does."""
        self._rows.clear()
        self._marks.clear()
        self._beats.clear()

    def restart(self) -> None:
        """Change the run id; the data stays."""
        self._run_id = secrets.token_hex(8)

    def _answer(self, *, write: bool = False) -> None:
        if self.away:
            raise UnavailableError("the store is away")
        if write and self.read_only:
            raise UnavailableError("the store takes no writes")

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows."""
        self._answer(write=True)
        self._rows.update(zip([(kind, k) for k in rows.keys.tolist()], rows, strict=True))

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows."""
        self._answer()
        return [self._rows.get((kind, k)) for k in keys]

    async def get_several(self, wanted: Sequence[tuple[Kind, Sequence[int]]]) -> list[list[bytes | None]]:
        """Read packed rows of several kinds."""
        return [await self.get(kind, keys) for kind, keys in wanted]

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows."""
        self._answer(write=True)
        for key in keys:
            self._rows.pop((kind, int(key)), None)

    def _mark(self, kind: Kind, partition: int, run_id: str) -> int | None:
        run, position = self._marks.get((kind, partition), ("", 0))
        return position if run == run_id else None

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the positions of the marks."""
        self._answer()
        self._seen[kind] = self._run_id
        return {p: self._mark(kind, p, self._run_id) for p in partitions}

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks."""
        self._answer(write=True)
        run = self._seen.setdefault(kind, self._run_id)
        done = {p for p in marks if seen is None or self._mark(kind, p, run) == seen[p]}
        self._marks.update({(kind, p): (run, marks[p]) for p in done})
        return done

    async def beat(
        self, kind: Kind, partitions: Sequence[int], texts: Mapping[int, bytes] | None = None
    ) -> None:
        """Note the time of the beats, and what they say."""
        self._answer(write=True)
        run = self._seen.setdefault(kind, self._run_id)
        if run != self._run_id:
            return
        now, texts = self._clock.monotonic(), texts or {}
        for p in partitions:
            if self._mark(kind, p, run) is not None:
                self._beats[kind, p] = now, texts.get(p, PLAIN)

    async def silence(self, kind: Kind, partitions: Sequence[int]) -> None:
        """Forget beats."""
        self._answer(write=True)
        for p in partitions:
            self._beats.pop((kind, p), None)

    async def beating(self, kind: Kind, partitions: Sequence[int]) -> set[int]:
        """Return the partitions that have a beat."""
        return set(await self.beats(kind, partitions))

    async def beats(self, kind: Kind, partitions: Sequence[int]) -> dict[int, bytes]:
        """Return what the beats say."""
        self._answer()
        since = self._clock.monotonic() - BEAT_S
        found = {p: self._beats.get((kind, p), (since, b"")) for p in partitions}
        return {p: text for p, (when, text) in found.items() if when > since}

    async def take_tokens(
        self, callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int
    ) -> list[int]:
        """Take tokens from buckets."""
        self._answer(write=True)
        return self._buckets.take(callers, tokens, rate, burst, round(self._clock.monotonic() * 1e6))

    async def close(self) -> None:
        """Nothing to close."""
