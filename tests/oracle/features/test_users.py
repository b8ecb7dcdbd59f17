"""Features of users, compared with brute force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_frames import DID, SAW, Brute, event_frame, shown_frame
from strategies import T0

from headrace.oracle.features.users import USER_METRICS, users_of
from headrace.oracle.features.windows import WINDOWS
from headrace.streams.settings import DAY_MS


@given(
    st.lists(DID, max_size=40), st.lists(SAW, max_size=10), st.integers(0, 10 * DAY_MS).map(lambda n: T0 + n)
)
def test_features_of_users_are_those_of_brute_force(did: Any, saw: Any, at: int) -> None:
    brute = Brute()
    for user, _, kind, ts, seconds, _ in did:
        brute.acts[user].append((kind, ts, 1))
        if kind == "dwell":
            brute.acts[user].append(("dwell_s", ts, seconds))
    for user, items, ts, _ in saw:
        brute.acts[user].append(("shown", ts, len(items)))
    known = users_of(event_frame(did), shown_frame(saw))
    assert known.keys["user"].to_list() == sorted(brute.acts)
    windows, totals, decayed = known.windows(at), known.totals(), known.decayed(at)
    newest, n_clicks, recent = known.newest(), known.n_clicks(), known.recent_ts()
    for row, user in enumerate(known.keys["user"]):
        acts = brute.acts[user]
        for j, metric in enumerate(USER_METRICS):
            mine = [(ts, amount) for m, ts, amount in acts if m == metric]
            assert totals[row, j] == sum(a for _, a in mine)
            assert decayed[row, j] == pytest.approx(
                sum(a * 2 ** ((ts - at) / (30 * DAY_MS)) for ts, a in mine)
            )
            for w, name in enumerate(WINDOWS):
                assert windows[row, w, j] == brute.window(user, name, metric, at, 65_535)
        clicks = sorted((ts for u, _, kind, ts, _, _ in did if u == user and kind == "click"), reverse=True)
        assert newest[row] == max(ts for _, ts, _ in acts)
        assert n_clicks[row] == len(clicks)
        assert recent[row].tolist() == (clicks + [-1] * 20)[:20]
