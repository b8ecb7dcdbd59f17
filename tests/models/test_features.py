from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import GAP_MS, T0, Act, acts, columns, item_events, unit_vectors

from headrace.models.embeddings import DIM
from headrace.models.features.assemble import SURFACES, assemble
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.spec import ONLINE, ONLINE_COLUMNS, ONLINE_NAMES, POSITION, SPEC, FeatureSpec
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.users import UserState, new_table
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS


def candidates(n: int, stats: ItemState | None = None, **changes: Any) -> Candidates:
    items = np.arange(1, n + 1, dtype=np.uint64)
    rows = np.full(n, item_state.BLANK, item_state.ROW)
    if stats is not None:
        found = stats.table.find(items)
        rows[found >= 0] = stats.table.data[found[found >= 0]]
    zeros = np.zeros(n, np.float32)
    fields: dict[str, Any] = {
        "items": items,
        "stats": rows,
        "category": items % np.uint64(5),
        "creator": items % np.uint64(7),
        "published": np.full(n, T0 - HOUR_MS, np.int64),
        "vectors": unit_vectors(n, 3),
        "country_clicks": zeros,
        "next_score": zeros,
        "next_share": zeros,
        "next_share_2": zeros,
        "together": zeros,
        **changes,
    }
    return Candidates(**fields)


def context(**changes: Any) -> RequestContext:
    fields: dict[str, Any] = {
        "now": T0,
        "country": 0,
        "device": "",
        "surface": "home",
        "user_vector": np.zeros(DIM, np.float32),
        "last_vector": np.zeros(DIM, np.float32),
        **changes,
    }
    return RequestContext(**fields)


def user_of(*story: Act) -> Any:
    state = UserState(new_table(), GAP_MS)
    state.apply(columns(story))
    return state.table.data[state.table.row(1)][None]


def of(matrix: Any, name: str) -> list[float]:
    return matrix[:, SPEC.index(name)].tolist()  # type: ignore[no-any-return]


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


def test_the_item_in_its_windows() -> None:
    events = np.zeros(4, item_events_dtype())
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


def item_events_dtype() -> Any:
    from headrace.streams.messages.columns import ITEM_EVENT

    return ITEM_EVENT


def test_pairs_and_ranks() -> None:
    c = candidates(
        3,
        next_score=np.array([2, 0, 6], np.float32),
        next_share=np.array([0.25, 0, 0.75], np.float32),
        together=np.array([1, 3, 0], np.float32),
        country_clicks=np.array([1, 0, 3], np.float32),
    )
    out = assemble(None, c, context(country=9))
    assert of(out, "next_score") == pytest.approx(np.log1p([2, 0, 6]))
    assert of(out, "next_rank") == [2, 0, 1]
    assert of(out, "together_rank") == [2, 1, 0]
    assert of(out, "next_share") == [0.25, 0, 0.75]
    assert of(out, "country_clicks_1h") == pytest.approx(np.log1p([1, 0, 3]))
    assert of(out, "country_share_1h") == [0.25, 0, 0.75]


def test_the_user_and_what_they_like() -> None:
    user = user_of(
        Act(1, 2, "click", T0 - 3 * MINUTE_MS, category=2, creator=3),
        Act(1, 3, "like", T0 - MINUTE_MS, category=4, creator=3),
    )
    user["preferred"][0, 0], user["followed"][0, 0] = 1, 3
    out = assemble(user, candidates(4), context())
    assert of(out, "user_clicks_5m") == pytest.approx([np.log1p(1)] * 4)
    assert of(out, "user_clicks_total") == pytest.approx([np.log1p(1)] * 4)
    assert of(out, "user_session_len") == [1] * 4
    assert of(out, "user_idle_min") == pytest.approx([np.log1p(3)] * 4)
    # candidates 1..4 have categories 1..4 and creators 1..4
    assert of(out, "category_affinity") == pytest.approx([0, 1 / 3, 0, 2 / 3], rel=1e-3)
    assert of(out, "creator_affinity") == pytest.approx([0, 0, 1, 0])
    assert of(out, "category_preferred") == [1, 0, 0, 0]
    assert of(out, "creator_followed") == [0, 0, 1, 0]
    assert of(out, "seen_before") == [0, 1, 0, 0]


def test_an_item_without_category_matches_nobodys_taste() -> None:
    user = user_of(Act(1, 2, "click", T0, category=2))  # ten of twelve places stay 0
    nothing = np.zeros(2, np.uint64)
    out = assemble(user, candidates(2, category=nothing, creator=nothing), context())
    for name in ("category_affinity", "creator_affinity", "category_preferred", "creator_followed"):
        assert of(out, name) == [0, 0], name


def test_somebody_unknown_and_somebody_who_never_clicked() -> None:
    for user in (None, np.full(1, user_state.BLANK, user_state.ROW)):
        out = assemble(user, candidates(2), context())
        assert np.isfinite(out).all()
        assert of(out, "seen_before") == [0, 0]
    assert of(out, "user_idle_min") == [-1, -1]


def test_the_request() -> None:
    out = assemble(None, candidates(1), context(surface="digest", now=5 * HOUR_MS + DAY_MS, device="phone"))
    assert of(out, "surface") == [2]
    assert of(out, "hour") == [5]
    assert 0 <= of(out, "device")[0] < 64
    assert of(out, "device") != of(assemble(None, candidates(1), context(device="tv")), "device")
    last = assemble(None, candidates(5), context(last_category=2, last_creator=4))
    assert of(last, "same_category_as_last") == [0, 1, 0, 0, 0]
    assert of(last, "same_creator_as_last") == [0, 0, 0, 1, 0]


def test_vectors() -> None:
    vectors = unit_vectors(3, 3)
    out = assemble(None, candidates(3), context(user_vector=vectors[0], last_vector=-vectors[2]))
    assert of(out, "vector_user")[0] == pytest.approx(1)
    assert of(out, "vector_last")[2] == pytest.approx(-1)


def test_the_version_follows_the_list() -> None:
    assert len({FeatureSpec(n).version for n in [("a", "b"), ("b", "a"), ("a",), ("a\nb",), ("ab",)]}) >= 4
    assert FeatureSpec(("a", "b")).version == FeatureSpec(("a", "b")).version
    assert FeatureSpec(("a", "b")).version != FeatureSpec(("a", "b", "c")).version


def test_the_list() -> None:
    assert len(set(SPEC.names)) == len(SPEC.names) == len(SPEC)
    assert SPEC.names[POSITION] == "position"
    assert SPEC.names[ONLINE] == "online_score"
    assert len(ONLINE_NAMES) == len(ONLINE_COLUMNS) == len(SPEC) - 2
    assert not {"position", "online_score"} & set(ONLINE_NAMES)


@pytest.mark.parametrize("missing", [n for n in SPEC.names if n not in ("position", "online_score")])
def test_every_feature_of_the_list_is_filled(missing: str) -> None:
    # A name in the list that nothing writes would be a constant 0 for ever: here everything has some value.
    rng = np.random.default_rng(0)
    events = np.zeros(400, item_events_dtype())
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
    c = candidates(
        8, stats, country_clicks=some, next_score=some, next_share=some, next_share_2=some, together=some
    )
    for name in ("next_share_all", "next_total"):
        if name in c.__dataclass_fields__:
            setattr(c, name, some if name == "next_share_all" else 9.0)
    ctx = context(
        surface="related",
        device="phone",
        country=3,
        user_vector=unit_vectors(1)[0],
        last_vector=unit_vectors(1, 1)[0],
        last_category=2,
        last_creator=3,
    )
    assert any(of(assemble(user, c, ctx), missing))
