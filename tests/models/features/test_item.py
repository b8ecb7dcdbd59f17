from __future__ import annotations

import numpy as np
import pytest
from feature_inputs import candidates, context, of
from strategies import T0

from headrace.models.features.assemble import assemble
from headrace.models.state.items import ItemState
from headrace.streams.messages.columns import ITEM_EVENT
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
