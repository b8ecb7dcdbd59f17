"""The result of ``headrace verify`` as figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class VerifyResult:
    """The result of a verification. The fields are the keys of the JSON.

    Attributes
    ----------
    users, items, countries, shown_rows, redis_rows
        Rows compared: of users, of items, of items in countries, of what users were shown, and those of them
        in Redis.
    events, accepted, duplicates, rejected, rejected_by, impressions
        Numbers of records in the raw topics; ``rejected_by`` counts by reason.
    compared
        What was compared beside windows and counts, by kind: profiles, guard rows, neighbours and so on.
    left_out
        What of these could not be compared, by kind.
    not_compared
        Users whose affinities cannot be computed from the topics.
    forgotten
        Users with a tombstone.
    at
        The times (ms) at which windows were compared.
    covered_from
        The topics have all events and impressions from this time (ms) on; 0 when no record was deleted.
    first
        The first differences.
    """

    users: int = 0
    items: int = 0
    countries: int = 0
    shown_rows: int = 0
    values_compared: int = 0
    differences: int = 0
    rows_that_differ: int = 0
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejected_by: dict[str, int] = field(default_factory=dict)
    impressions: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    not_compared: int = 0
    forgotten: int = 0
    redis_rows: int = 0
    at: list[int] = field(default_factory=list)
    covered_from: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0: nothing differs, 1: something differs, 2: nothing could be compared."""
        return 1 if self.differences else 0 if self.values_compared else 2

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return asdict(self)
