"""One partition in all looks at a lag: whether it moves, who had it, how fast, when it is drained. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_verdict import Verdict


@dataclass(frozen=True, slots=True)
class Track:
    """One partition in all looks, oldest first."""

    rows: tuple[LagRow, ...]
    seconds: float

    @property
    def newest(self) -> LagRow:
        """The last look."""
        return self.rows[-1]

    @property
    def partition(self) -> int:
        """Its number."""
        return self.newest.partition

    @property
    def is_stuck(self) -> bool:
        """Whether its offset has not moved for long."""
        return self.newest.verdict in (Verdict.STALL, Verdict.STOP)

    @property
    def moved(self) -> bool:
        """Whether its offset moved."""
        return self.rows[0].committed != self.newest.committed

    @property
    def moves(self) -> int:
        """How often its offset moved."""
        return sum(before.committed != after.committed for before, after in pairwise(self.rows))

    @property
    def members(self) -> list[str | None]:
        """Who had it, one after the other; a rebalance is left out."""
        told = [row.member for row in self.rows if row.held is not None]
        return [member for n, member in enumerate(told) if n == 0 or member != told[n - 1]]

    @property
    def deaths(self) -> int:
        """How often a member lost it."""
        return sum(before is not None for before, _ in pairwise(self.members))

    @property
    def came(self) -> float:
        """Records that came, each second."""
        return (self.newest.end - self.rows[0].end) / self.seconds if self.seconds else 0.0

    @property
    def went(self) -> float:
        """Records that were committed, each second."""
        went = max(0, self.newest.committed) - max(0, self.rows[0].committed)
        return went / self.seconds if self.seconds else 0.0


def drain_s(rows: Sequence[LagRow]) -> float | None:
    """Return in how many seconds all partitions are read at this rate; None when one never is, or unknown."""
    out = 0.0
    for row in rows:
        if row.records == 0:
            continue
        if row.trend is None or row.trend >= 0:
            return None
        out = max(out, row.records / -row.trend)
    return out
