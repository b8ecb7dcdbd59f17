"""Item events that say the same are put together before they are sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from strategies import T0, item_events

from headrace.models.state.item_events import combine_item_events
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import MINUTE_MS

Events = np.ndarray[Any, Any]
START = T0 // MINUTE_MS * MINUTE_MS


def clicks(*told: tuple[int, int, int]) -> Events:
    """Return clicks: item, ms after the start of a minute, number."""
    out = np.zeros(len(told), ITEM_EVENT)
    out["item"], out["source_seq"] = [i for i, _, _ in told], [n for _, _, n in told]
    out["ts"] = [START + ms for _, ms, _ in told]
    out["amount"], out["kind"] = 1, KIND["click"]
    return out


def test_a_viral_item_is_one_record() -> None:
    one = combine_item_events(clicks(*((7, 100 + n, n) for n in range(5000))))
    assert len(one) == 1
    assert (one["amount"][0], one["source_seq"][0], one["ts"][0], one["span"][0]) == (
        5000,
        4999,
        START + 5099,
        4999,
    )


def test_minutes_kinds_countries_and_sources_stay_apart() -> None:
    events = clicks(
        (7, 0, 1), (7, MINUTE_MS - 1, 2), (7, MINUTE_MS, 3), (7, 5, 4), (7, 5, 5), (7, 5, 6), (8, 5, 7)
    )
    events["kind"][3] = KIND["like"]
    events["country"][4] = 9
    events["source_partition"][5] = 1
    assert combine_item_events(events)["source_seq"].tolist() == [2, 3, 4, 5, 6, 7]


def test_events_that_are_alone_stay_as_they_are() -> None:
    events = clicks((7, 0, 1), (7, 0, 2), (7, 0, 3), (7, 0, 4))
    events["alone"][:2] = 1
    out = combine_item_events(events)
    assert out[:2].tobytes() == events[:2].tobytes()
    assert (out["source_seq"].tolist(), out["amount"].tolist()) == ([1, 2, 4], [1, 1, 2])


def test_pairs_add_their_weights() -> None:
    pairs = clicks((7, 0, 1), (7, 0, 2))
    pairs["kind"], pairs["other"], pairs["seq_weight"] = KIND["pair"], 8, [1, 0.5]
    (out,) = combine_item_events(pairs)
    assert (out["amount"], out["seq_weight"], out["other"]) == (2, 1.5, 8)


@given(item_events())
def test_numbers_rise_and_nothing_is_lost(events: Events) -> None:
    events["source_seq"] = np.arange(len(events)) * 3
    events["source_partition"] = np.arange(len(events)) % 2
    before = events.tobytes()
    out = combine_item_events(events)
    assert events.tobytes() == before
    assert out["amount"].sum() == events["amount"].sum()
    for source in (0, 1):
        numbers = out["source_seq"][out["source_partition"] == source]
        assert (np.diff(numbers) > 0).all()
        assert numbers.max(initial=-1) == events["source_seq"][events["source_partition"] == source].max(
            initial=-1
        )
