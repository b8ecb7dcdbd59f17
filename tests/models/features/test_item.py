from __future__ import annotations

import numpy as np
import pytest
from feature_inputs import candidates, context, of
from strategies import T0

from headrace.models.features.assemble import assemble
from headrace.models.state.items import ItemState
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import HOUR_MS, MINUTE_MS


def test_the_item_in_its_windows() -> None:
    events = np.zeros(4, ITEM_EVENT)
    events["item"], events["amount"], events["kind"] = 1, 1, [1, 1, 0, 3]  # two clicks, shown, dwell
    events["ts"] = [T0, T0 - 20 * MINUTE_MS, T0 - 2 * HOUR_MS, T0]
    events["amount"][3] = 30
    stats = ItemState()
    stats.apply(events, np.arange(4))
    out = assemble(None, candidates(2, stats), context())
    log = np.log1p
    assert of(out, "item_clicks_5m") == pytest.approx([log(1), 0])
    assert of(out, "item_clicks_1h") == pytest.approx([log(2), 0])
    assert of(out, "item_clicks_24h") == pytest.approx([log(2), 0])
    assert of(out, "item_clicks_total") == pytest.approx([log(2), 0])
    assert of(out, "item_shown_1h") == [0, 0]
    assert of(out, "item_shown_24h") == pytest.approx([log(1), 0])
    assert of(out, "item_ctr_24h") == pytest.approx([3 / 22, 1 / 20])
    assert of(out, "item_dwell_mean_24h") == pytest.approx([log(30 / 3), 0])
    assert of(out, "item_click_share_1h") == [1, 0]
    assert of(out, "item_click_rank_1h") == [1, 0]
    assert of(out, "item_age_h") == pytest.approx([log(1), log(1)])
    assert of(out, "item_idle_min") == pytest.approx([0, -1])


def test_an_item_against_its_category_and_this_against_all() -> None:
    told = {1: (30, 600, 10), 2: (10, 400, 30), 3: (0, 0, 0), 4: (5, 1000, 300), 5: (0, 3, 1), 6: (9, 0, 0)}
    kinds = KIND["click"], KIND["shown"], KIND["skip"]
    rows = [(item, *pair) for item, counts in told.items() for pair in zip(kinds, counts, strict=True)]
    events = np.zeros(len(rows), ITEM_EVENT)
    events["item"], events["kind"], events["amount"] = zip(*rows, strict=True)
    events["ts"] = T0
    stats = ItemState()
    stats.apply(events, np.arange(len(events)))
    category = np.array([7, 7, 7, 8, 8, 0], np.uint64)
    out = assemble(None, candidates(6, stats, category=category), context())
    for rate, weight, slots in (
        ("ctr", 20, [600, 400, 0, 1000, 3, 9]),
        ("seen", 5, [40, 40, 0, 305, 1, 9]),
    ):
        clicks = [30, 10, 0, 5, 0, 9]
        every = (sum(clicks) + 1) / (sum(slots) + 20)
        liked = (40 + weight * every) / (sum(slots[:3]) + weight)
        other = (5 + weight * every) / (sum(slots[3:5]) + weight)
        begin = [liked] * 3 + [other] * 2 + [every]
        rates = [(c + weight * b) / (n + weight) for c, n, b in zip(clicks, slots, begin, strict=True)]
        theirs, own = of(out, f"item_category_{rate}_24h"), of(out, f"item_{rate}_lift_24h")
        assert theirs == pytest.approx([np.log(b / every) for b in begin], abs=1e-5)
        assert own == pytest.approx([np.log(r / b) for r, b in zip(rates, begin, strict=True)], abs=1e-5)
        assert own[2] == pytest.approx(0, abs=1e-6), "nothing is known of it: as its category"


def test_how_long_an_item_is_viewed_against_its_category_and_this_against_all() -> None:
    told = {1: (4, 400), 2: (2, 20), 3: (0, 0), 4: (10, 100), 5: (1, 0)}
    kinds = KIND["click"], KIND["dwell"]
    rows = [(item, *pair) for item, counts in told.items() for pair in zip(kinds, counts, strict=True)]
    events = np.zeros(len(rows), ITEM_EVENT)
    events["item"], events["kind"], events["amount"] = zip(*rows, strict=True)
    events["ts"] = T0
    stats = ItemState()
    stats.apply(events, np.arange(len(events)))
    category = np.array([7, 7, 7, 8, 0], np.uint64)
    out = assemble(None, candidates(5, stats, category=category), context())
    clicks, seconds = zip(*told.values(), strict=True)
    every = sum(seconds) / sum(clicks)
    begin = [(420 + 4 * every) / (6 + 4)] * 3 + [(100 + 4 * every) / (10 + 4), every]
    views = [(s + 4 * b) / (n + 4) for n, s, b in zip(clicks, seconds, begin, strict=True)]
    theirs, own = of(out, "item_category_dwell_24h"), of(out, "item_dwell_lift_24h")
    assert theirs == pytest.approx([np.log(b / every) for b in begin], abs=1e-5)
    assert own == pytest.approx([np.log(v / b) for v, b in zip(views, begin, strict=True)], abs=1e-5)
    assert own[2] == pytest.approx(0, abs=1e-6), "it was not clicked: as its category"
    assert not any(of(assemble(None, candidates(5), context()), "item_dwell_lift_24h")), "nobody has viewed"
