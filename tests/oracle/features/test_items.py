"""Features of items, compared with brute force."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracle_frames import DID, SAW, Brute, event_frame, group_of, shown_frame
from strategies import T0

from headrace.oracle.features.items import ITEM_METRICS, items_of
from headrace.oracle.features.windows import WINDOWS
from headrace.streams.settings import DAY_MS


@given(
    st.lists(DID, max_size=40), st.lists(SAW, max_size=10), st.integers(0, 10 * DAY_MS).map(lambda n: T0 + n)
)
def test_features_of_items_are_those_of_brute_force(did: Any, saw: Any, at: int) -> None:
    everywhere, there = Brute(), Brute()
    clicks: dict[Any, list[int]] = defaultdict(list)
    counted = [(item, c, kind, ts, s) for _, item, kind, ts, s, c in did if kind not in ("follow", "hide")]
    counted += [(item, c, "shown", ts, 1) for _, items, ts, c in saw for item in items]
    for item, country, kind, ts, seconds in counted:
        metric = {"dwell": "dwell_s", "save": "like"}.get(kind, kind)
        act = (metric, ts, seconds if kind == "dwell" else 1)
        everywhere.acts[item, 0].append(act)
        if country:
            there.acts[item, country].append(act)
        place = (country + group_of(ts) * 0xD6E8FEB86659FD93) % 2**64
        aged = bool(country and group_of(ts) and kind in ("shown", "click"))
        if aged:
            there.acts[item, place].append(act)
        for key in {(item, 0), (item, country), (item, place if aged else 0)} if kind == "click" else ():
            clicks[key].append(ts)
    for known, brute in zip(items_of(event_frame(did), shown_frame(saw)), (everywhere, there), strict=True):
        assert known.keys.select("item", "country").rows() == sorted(brute.acts)
        windows, totals = known.windows(at), known.totals()
        first, last = known.first_ts(), known.last_click()
        for row, key in enumerate(known.keys.select("item", "country").rows()):
            assert first[row] == min(ts for _, ts, _ in brute.acts[key])
            assert last[row] == max(clicks[key], default=0)
            for j, metric in enumerate(ITEM_METRICS):
                assert totals[row, j] == sum(a for m, _, a in brute.acts[key] if m == metric)
                for w, name in enumerate(WINDOWS):
                    assert windows[row, w, j] == brute.window(key, name, metric, at, 2**32)
        parts = [known.of_partition(n, 3) for n in range(3)]
        assert sum(p.shape[0] for p in parts) == known.shape[0]
        for n, part in enumerate(parts):
            mine = known.keys["item"].to_numpy() % 3 == n
            assert np.array_equal(part.windows(at), windows[mine])
            assert np.array_equal(part.totals(), totals[mine])
