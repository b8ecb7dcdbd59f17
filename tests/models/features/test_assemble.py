from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from feature_inputs import candidates, context, of, shown_of, user_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import GAP_MS, T0, Act, acts, columns, item_events, unit_vectors

from headrace.models.features.assemble import SURFACES, assemble
from headrace.models.features.history import History
from headrace.models.features.inputs import Candidates
from headrace.models.features.spec import ONLINE, POSITION, SPEC
from headrace.models.state.items import ItemState
from headrace.models.state.users import UserState, new_table
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS


@given(
    st.integers(0, 9),
    st.lists(acts, max_size=25),
    item_events(max_size=25),
    st.integers(-HOUR_MS, 40 * DAY_MS),
    st.sampled_from(SURFACES),
    st.text(max_size=10),
    st.integers(0, 9),
    st.booleans(),
)
def test_always_a_finite_matrix_and_nothing_is_touched(
    n: int, story: list[Act], events: Any, later: int, surface: str, device: str, seed: int, known: bool
) -> None:
    stats = ItemState()
    stats.apply(events, np.arange(len(events)))
    state = UserState(new_table(), GAP_MS)
    state.apply(columns(story))
    rng = np.random.default_rng(seed)
    random = {
        name: rng.choice([0, 0.5, 3, 1e6], n).astype(np.float32)
        for name in ("country_clicks", "next_score", "next_share", "next_share_2", "together")
    }
    c = candidates(n, stats, published=rng.choice([0, T0, T0 + DAY_MS], n), **random)
    row = state.table.row(1)
    user = state.table.data[row : row + 1] if row >= 0 and known else None
    ctx = context(
        now=T0 + later,
        surface=surface,
        device=device,
        user_vector=unit_vectors(1, seed)[0],
        last_vector=unit_vectors(1, seed + 1)[0],
        last_category=seed % 5,
        last_creator=seed % 7,
    )
    before = [np.copy(getattr(c, f)) for f in c.__dataclass_fields__ if isinstance(getattr(c, f), np.ndarray)]
    table = state.table.data.tobytes()
    out = assemble(user, c, ctx)
    assert out.shape == (n, len(SPEC))
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    after = [getattr(c, f) for f in c.__dataclass_fields__ if isinstance(getattr(c, f), np.ndarray)]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert state.table.data.tobytes() == table
    assert (out[:, POSITION] == 0).all()
    assert (out[:, ONLINE] == 0).all()
    np.testing.assert_array_equal(assemble(user, c, ctx), out)


@given(st.permutations(range(6)), item_events(max_size=25))
def test_a_candidates_features_do_not_depend_on_its_place(order: list[int], events: Any) -> None:
    stats = ItemState()
    stats.apply(events, np.arange(len(events)))
    weights = np.array([0.1, 0.9, 0.3, 0.7, 0.2, 0.5], np.float32)  # no ties, so ranks are the same
    c = candidates(6, stats, next_score=weights, together=weights[::-1].copy(), country_clicks=weights)
    moved = Candidates(
        **{
            f: getattr(c, f)[order] if isinstance(getattr(c, f), np.ndarray) else getattr(c, f)
            for f in c.__dataclass_fields__
        }
    )
    ctx = context(user_vector=unit_vectors(1)[0])
    ranks = [
        i for i, name in enumerate(SPEC.names) if "rank" not in name
    ]  # ties of clicks are broken by place
    np.testing.assert_allclose(
        assemble(None, moved, ctx)[:, ranks], assemble(None, c, ctx)[order][:, ranks], rtol=1e-5, atol=1e-6
    )


def test_the_request() -> None:
    out = assemble(None, candidates(1), context(surface="digest", now=5 * HOUR_MS + DAY_MS, device="phone"))
    assert of(out, "surface") == [2]
    assert of(out, "hour") == [5]
    assert 0 <= of(out, "device")[0] < 64
    assert of(out, "device") != of(assemble(None, candidates(1), context(device="tv")), "device")
    last = assemble(None, candidates(5), context(last_category=2, last_creator=4))
    assert of(last, "same_category_as_last") == [0, 1, 0, 0, 0]
    assert of(last, "same_creator_as_last") == [0, 0, 0, 1, 0]


def test_the_country_tells_the_local_time_and_the_user_the_age_and_the_language() -> None:
    # 2023-11-14 22:13 UTC, a Tuesday: in Japan it is Wednesday, 07:13; India is half an hour off.
    def told(**changes: Any) -> list[float]:
        out = assemble(None, candidates(1, language=np.array([7], np.uint64)), context(**changes))
        return [of(out, name)[0] for name in ("local_hour", "weekday", "age_group", "same_language")]

    assert told(country=hash64("JP"), age=17, language=7) == [7, 2, 0, 1]
    assert told(country=hash64("IN"), age=18, language=8) == [3, 2, 1, -1]
    assert told(country=hash64("BR"), age=70) == [19, 1, 6, 0]
    assert told(country=hash64("no such country")) == [22, 1, -1, 0]
    summer = 1_690_000_000_000  # 04:26 UTC
    assert told(country=hash64("DE"), now=summer)[0] == 6


def test_the_share_watched_of_an_item_and_of_its_category() -> None:
    """1 and 3: one click and 30 of 60 s; three clicks and 20 of 20 s. 2: other category. 4: no length."""
    events = np.zeros(7, ITEM_EVENT)
    events["item"], events["ts"], events["amount"] = [1, 1, 3, 3, 3, 3, 4], T0 - MINUTE_MS, 1
    events["kind"] = [KIND["click"], KIND["dwell"], *[KIND["click"]] * 3, KIND["dwell"], KIND["dwell"]]
    events["amount"][[1, 5, 6]] = 30, 60, 9
    stats = ItemState()
    stats.apply(events, np.arange(7))
    durations, category = np.array([60, 5, 20, 0]) * 1000, np.array([1, 2, 1, 1], np.uint64)
    out = assemble(None, candidates(4, stats, duration=durations, category=category), context())
    assert of(out, "item_watched_24h") == pytest.approx([30 / 120, 0, 60 / 80, 0])
    assert of(out, "category_watched_24h") == pytest.approx([90 / 200, 0, 90 / 200, 90 / 200])
    assert of(out, "item_duration") == pytest.approx(np.log1p([60, 5, 20, 0]))


@pytest.mark.parametrize("missing", [n for n in SPEC.names if n not in ("position", "online_score")])
def test_every_feature_of_the_list_is_filled(missing: str) -> None:
    # A name in the list that nothing writes would be a constant 0 for ever: here everything has some value.
    rng = np.random.default_rng(0)
    events = np.zeros(400, ITEM_EVENT)
    events["item"], events["kind"] = rng.integers(1, 9, 400), rng.choice([0, 1, 2, 3, 4], 400)
    events["ts"], events["amount"] = T0 - rng.integers(0, 10 * MINUTE_MS, 400), 1
    stats = ItemState()
    stats.apply(events, np.arange(400))
    user = user_of(
        *(
            Act(1, k, kind, T0 - k * MINUTE_MS, 60, category=k % 5, creator=k % 7)
            for k in range(1, 8)
            for kind in ("click", "dwell", "skip", "like")
        )
    )
    user["preferred"][0, :2], user["followed"][0, :2] = [1, 2], [3, 4]
    some = np.array([1, 2, 3, 0, 5, 6, 7, 8], np.float32)
    strengths = ("next_score", "next_share", "next_share_2", "next_share_all", "next_recent")
    c = candidates(
        8,
        stats,
        country_clicks=some,
        together=some,
        together_recent=some,
        next_total=9.0,
        duration=np.arange(8) * 10_000,
        language=np.full(8, 5, np.uint64),
        **dict.fromkeys(strengths, some),
    )
    ctx = context(
        surface="related",
        device="phone",
        country=3,
        user_vector=unit_vectors(1)[0],
        last_vector=unit_vectors(1, 1)[0],
        last_category=2,
        last_creator=3,
        age=30,
        language=5,
        history=History(np.array([1, 2], np.uint64), np.array([[1, -1], [1, -1]], np.float32)),
        shown=shown_of([1, 2]),
    )
    assert any(of(assemble(user, c, ctx), missing))
