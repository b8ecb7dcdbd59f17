"""Points over time with a bounded size: seconds become minutes, minutes become hours. Pure, but for its file.

There are three tiers, each a ring of buckets: 15 minutes of 2 s, a day of 1 minute, 30 days of 1 hour. A
point goes into one bucket of each. In a bucket, a series keeps its largest value or its mean, as its name
says. A bucket without a point of a series is not known: NaN, never 0.

A series takes 2,610 values of 4 bytes, 10 kB. At most ``MOST`` series are kept, so memory and file stay under
6 MB; of more, those that got no point for longest go.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.streams.errors import ConfigError

#: Length of a bucket, s, and number of buckets.
TIERS: Final = ((2, 450), (60, 1440), (3600, 720))
#: Most series.
MOST: Final = 512
_MAGIC = b"headrace-series-1\n"

Rows = npt.NDArray[np.float32]


@dataclass
class _Tier:
    """One ring. ``last`` is the newest bucket, counted from the epoch; -1 before the first point."""

    step: int
    size: int
    rows: Rows = field(init=False)
    points: npt.NDArray[np.int32] = field(init=False)  # of each series in the newest bucket
    last: int = -1

    def __post_init__(self) -> None:
        self.rows = np.full((0, self.size), np.nan, np.float32)
        self.points = np.zeros(0, np.int32)

    def move(self, bucket: int) -> None:
        """Make a bucket the newest. What is between, and after it, is not known."""
        if bucket == self.last:
            return
        first, until = (self.last + 1, bucket) if bucket > self.last else (bucket, self.last)
        gone = np.arange(max(first, until + 1 - self.size), until + 1) % self.size
        self.rows[:, gone] = np.nan
        self.points[:] = 0
        self.last = bucket

    def add(self, row: int, value: float, mean: bool) -> None:
        """Put a value of a series into the newest bucket."""
        at = self.last % self.size
        held, n = self.rows[row, at], int(self.points[row])
        if math.isnan(held):
            self.rows[row, at], self.points[row] = value, 1
        elif mean:
            self.rows[row, at], self.points[row] = held + (value - held) / (n + 1), n + 1
        else:
            self.rows[row, at] = max(held, value)


@dataclass(frozen=True, slots=True)
class History:
    """The newest buckets of a tier.

    Attributes
    ----------
    step, end
        Length of a bucket, and beginning of the newest one, s since the epoch.
    values
        By series, the value in each bucket, oldest first; NaN where it is not known.
    """

    step: int
    end: int
    values: dict[str, Rows]


class Series:
    """All series.

    Parameters
    ----------
    means
        Beginnings of the names of series that keep the mean of a bucket; all others keep the largest value.
    most
        Most series.
    """

    def __init__(self, means: tuple[str, ...] = (), most: int = MOST) -> None:
        self._means, self._most = means, most
        self._tiers = [_Tier(step, size) for step, size in TIERS]
        self._rows: dict[str, int] = {}
        self._seen: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self._rows)

    def add(self, at_s: float, point: Mapping[str, float]) -> None:
        """Add a point, without values that are not finite. A clock that goes back forgets what follows."""
        for tier in self._tiers:
            tier.move(int(at_s // tier.step))
        for name, value in point.items():
            if not math.isfinite(value):
                continue
            row = self._row(name)
            self._seen[name] = at_s
            mean = name.startswith(self._means)
            for tier in self._tiers:
                tier.add(row, value, mean)

    def history(self, tier: int, buckets: int | None = None) -> History:
        """Return the newest buckets of a tier (0: the finest), of the series with a value there."""
        kept = self._tiers[tier]
        n = kept.size if buckets is None else min(buckets, kept.size)
        places = np.arange(kept.last - n + 1, kept.last + 1) % kept.size
        values = {}
        for name, row in sorted(self._rows.items()):
            found = kept.rows[row, places]
            if not np.isnan(found).all():
                values[name] = found
        return History(kept.step, max(0, kept.last) * kept.step, values)

    def _row(self, name: str) -> int:
        if name not in self._rows:
            if len(self._rows) >= self._most:
                oldest = min(self._seen, key=self._seen.__getitem__)
                row = self._rows.pop(oldest)
                del self._seen[oldest]
                for tier in self._tiers:
                    tier.rows[row], tier.points[row] = np.nan, 0
            else:
                row = len(self._rows)
                for tier in self._tiers:
                    blank = np.full((1, tier.size), np.nan, np.float32)
                    tier.rows = np.concatenate([tier.rows, blank])
                    tier.points = np.append(tier.points, np.int32(0))
            self._rows[name] = row
        return self._rows[name]

    # -- the file

    def encode(self) -> bytes:
        """Return everything as the bytes of a file."""
        names = sorted(self._rows, key=self._rows.__getitem__)
        head = {"names": names, "seen": [self._seen[name] for name in names], "tiers": TIERS}
        head["last"] = [tier.last for tier in self._tiers]
        parts = [_MAGIC, json.dumps(head).encode(), b"\n"]
        for tier in self._tiers:
            parts += [tier.points.astype("<i4").tobytes(), tier.rows.astype("<f4").tobytes()]
        return b"".join(parts)

    def decode(self, data: bytes) -> None:
        """Take what a file has; raise ``ConfigError`` when it is not such a file, and change nothing."""
        try:
            magic, head_line, body = data.split(b"\n", 2)
            head = json.loads(head_line)
            names, tiers = [str(name) for name in head["names"]], [tuple(tier) for tier in head["tiers"]]
            if magic + b"\n" != _MAGIC or tiers != list(TIERS) or len(names) > self._most:
                raise ValueError("other tiers, or too many series")  # noqa: TRY301 - told like other faults
            found, at, n = [], 0, len(names)
            for (step, size), last in zip(TIERS, head["last"], strict=True):
                tier = _Tier(step, size, last=int(last))
                tier.points = np.frombuffer(body, "<i4", n, at).astype(np.int32)
                tier.rows = np.frombuffer(body, "<f4", n * size, at + 4 * n).astype(np.float32)
                tier.rows = tier.rows.reshape(n, size)
                at += 4 * n * (1 + size)
                found.append(tier)
            seen = {name: float(ts) for name, ts in zip(names, head["seen"], strict=True)}
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ConfigError(f"not a file of points: {exc}") from exc
        self._tiers, self._rows, self._seen = found, {name: i for i, name in enumerate(names)}, seen

    def load(self, path: Path) -> None:
        """Take what the file has. Without a file, nothing; raises ``ConfigError`` as ``decode``."""
        if path.exists():
            self.decode(path.read_bytes())


def write(path: Path, data: bytes) -> None:
    """Write a file whole: whoever reads it sees the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(data)
    beside.replace(path)
