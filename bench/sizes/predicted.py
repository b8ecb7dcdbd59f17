"""What the constants of ``headrace capacity`` say of an installation whose rows are counted. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.console.sizing.constants import Constants

MB = 1e6


class Compared(NamedTuple):
    """One figure: its name, its unit, what was predicted and what was measured."""

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """By how much the prediction is too large, as a share of what was measured."""
        return self.predicted / self.measured - 1 if self.measured else math.inf


def predicted(counted: Mapping[str, float], constants: Constants) -> dict[str, tuple[str, float]]:
    """Return name -> unit and prediction.

    Parameters
    ----------
    counted
        ``users``, ``items``, ``countries`` (rows), ``neighbours`` (rows), ``events``, ``minutes`` (that their
        timestamps span), ``user_rows_written`` (records of `user-state`).
    """
    users, items, events = counted["users"], counted["items"], counted["events"]
    each, of_item = events / users, events / items
    in_window = min(1.0, 10 / counted["minutes"]) * events
    ingest = constants["base_bytes_ingest"] + users * constants["user_row_memory_bytes"]
    ingest += (
        in_window * constants["dedup_id_bytes"] + counted["catalogue"] * constants["item_attribute_bytes"]
    )
    aggregate = constants["base_bytes_aggregate"]
    aggregate += (items + counted["countries"]) * constants["item_row_memory_bytes"]
    aggregate += counted["neighbours"] * constants["neighbour_row_memory_bytes"]
    redis = users * constants.at("redis_user_bytes", each)
    redis += items * constants.at("redis_item_bytes", of_item)
    redis += counted["neighbours"] * constants.at("redis_neighbour_bytes", of_item)
    changelog = counted["user_rows_written"] * constants.at("user_state_bytes", each)
    return {
        "Redis, data": ("MB", redis / MB),
        "`events` on disk": ("MB", events * constants["event_bytes"] / MB),
        "`item-events` on disk": ("MB", events * constants["item_event_bytes"] / MB),
        "`user-state` on disk": ("MB", changelog / MB),
        "memory of `ingest`": ("MB", ingest / MB),
        "memory of `aggregate`": ("MB", aggregate / MB),
        "CPU of `ingest`, an event": ("us", constants["ingest_us_per_event"]),
        "CPU of `aggregate`, an event": ("us", constants["aggregate_us_per_event"]),
    }


def compared(one: Mapping[str, Any], constants: Constants) -> list[Compared]:
    """Return predictions beside what was measured at one size."""
    return [
        Compared(what, unit, value, one["measured"][what])
        for what, (unit, value) in predicted(one["counted"], constants).items()
    ]
