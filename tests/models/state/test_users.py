"""User rows after any history: batches, order of arrival, counts, item events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_users import ReferenceUsers, both_ways
from strategies import GAP_MS, T0, Act, columns, histories, pieces
from user_stories import apply, clicks, row, rows_of, taste

from headrace.models.state.users import (
    AFFINITIES,
    AFFINITY_HALF_LIFE_MS,
    COUNTS,
    METRICS,
    PAIRS,
    RECENT,
    ROW,
    SEQ_STEP,
    WINDOWS,
    Applied,
    UserState,
    item_events,
    new_table,
)
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from headrace.streams.windows import WINDOW_NAMES

cuts = st.lists(st.integers(0, 60), max_size=6)


def all_pairs(done: list[Applied]) -> list[bytes]:
    return [p.tobytes() for a in done for p in a.pairs]


def brute_force_pairs(story: Sequence[Act]) -> list[tuple[int, int, int, float]]:
    """Return (source_seq, earlier item, later item, weight); clicks are plain lists, newest first."""
    out = []
    clicks: dict[int, list[tuple[int, int]]] = {}
    for offset, act in enumerate(story):
        if act.kind != "click":
            continue
        mine = clicks.setdefault(act.user, [])
        place = sum(ts > act.ts for ts, _ in mine)
        mine.insert(place, (act.ts, act.item))
        at = act.ts
        for k, (ts, item) in enumerate(mine[place + 1 : place + 1 + PAIRS], 1):
            if at - ts > GAP_MS:
                break
            at = ts
            if item != act.item:
                out.append((offset * SEQ_STEP + k, item, act.item, 1 / k))
        del mine[RECENT:]
    return out


@given(histories, cuts)
def test_batches_do_not_matter(story: list[Act], where: list[int]) -> None:
    one, done_one = apply(story)
    many, done_many = apply(story, where)
    single, done_single = apply(story, range(len(story)))
    assert rows_of(one) == rows_of(many) == rows_of(single)
    assert all_pairs(done_one) == all_pairs(done_many) == all_pairs(done_single)


@given(histories, cuts)
def test_a_batch_delivered_again_changes_nothing(story: list[Act], where: list[int]) -> None:
    once, _ = apply(story, where)
    twice = UserState(new_table(), GAP_MS)
    for part in pieces(len(story), where):
        batch = columns(story[part], range(part.start, part.stop))
        twice.apply(batch)
        again = twice.apply(batch)
        assert len(again.rows) == len(again.events) == len(again.pairs) == 0
    whole = twice.apply(columns(story))
    assert len(whole.pairs) == 0
    assert rows_of(once) == rows_of(twice)


@given(histories, st.integers(0, 60))
def test_a_batch_half_of_which_was_applied_is_finished(story: list[Act], half: int) -> None:
    # The rows written before a crash know their offsets, the others do not.
    whole, _ = apply(story)
    crashed, _ = apply(story[:half])
    crashed.apply(columns(story))
    assert rows_of(crashed) == rows_of(whole)


@given(histories)
def test_pairs_are_those_of_plain_session_lists(story: list[Act]) -> None:
    _, done = apply(story)
    got = [p for a in done for p in a.pairs]
    assert [
        (int(p["source_seq"]), int(p["item"]), int(p["other"]), pytest.approx(float(p["seq_weight"])))
        for p in got
    ] == brute_force_pairs(story)
    for p in got:
        act = story[int(p["source_seq"]) // SEQ_STEP]
        assert (int(p["ts"]), int(p["country"])) == (act.ts, 0)
        assert (p["kind"], p["amount"]) == (KIND["pair"], 1)


@given(histories, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(story: list[Act], random: Any) -> None:
    """Windows, totals, recent items, sessions, affinities: what arrives late finds its place.

    Not so for pairs (a late click is tied to those before it only) and for the last country seen.
    """
    story = list({a.ts: a for a in story}.values())  # of two at the same moment, the first to arrive is first
    shuffled = list(story)
    random.shuffle(shuffled)
    one, _ = apply(sorted(story, key=lambda a: a.ts))
    other, _ = apply(shuffled)
    for user in one.table.keys().tolist():
        a, b = row(one, user), row(other, user)
        for name in ("updated", "n_clicks", "session_len", "recent", "recent_ts", "totals", "cat_ts"):
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        now = int(a["updated"])
        np.testing.assert_array_equal(WINDOWS.read(a[None], now), WINDOWS.read(b[None], now))
        np.testing.assert_allclose(a["decayed"], b["decayed"], rtol=1e-12)
        for name in ("cat", "creator"):
            x, y = taste(a, name), taste(b, name)
            for key in x.keys() | y.keys():  # one that cancels out is no more, or next to nothing
                assert y.get(key, 0.0) == pytest.approx(x.get(key, 0.0), rel=1e-4, abs=1e-5)
        for field in ("cat_dwell", "cat_views"):
            x, y = (dict(zip(r["cat"].tolist(), r[field].tolist(), strict=True)) for r in (a, b))
            for key in x.keys() | y.keys():
                assert y.get(key, 0.0) == pytest.approx(x.get(key, 0.0), rel=1e-4, abs=1e-5)


def test_a_view_adds_its_log_seconds_to_its_category() -> None:
    state, _ = apply(
        [
            Act(1, 1, "dwell", T0, 30, category=5),
            Act(1, 2, "dwell", T0, 40_000, category=5),
            Act(1, 3, "dwell", T0, 0, category=6),
            Act(1, 4, "dwell", T0, 3, creator=7),
            Act(1, 4, "dwell", T0 - 30 * DAY_MS, 3, category=8),
        ]
    )
    one = row(state, 1)
    assert one["cat"][:3].tolist() == [5, 8, 0], "a view of no time says nothing"
    assert one["cat_views"][:3] == pytest.approx([2, 0.5, 0])
    assert one["cat_dwell"][:3] == pytest.approx([np.log(31) + np.log(601), np.log(4) / 2, 0], rel=1e-5)


def test_the_views_of_a_category_go_with_its_place_and_not_while_others_are_free() -> None:
    """What is liked and hidden again has no weight, and keeps its views until all places are taken."""
    told = [Act(1, 1, "dwell", T0, 30, category=5), Act(1, 1, "click", T0, category=5)]
    told.append(Act(1, 1, "hide", T0, category=5))
    others = [Act(1, 1, "click", T0, category=100 + n) for n in range(AFFINITIES - 1)]
    one = row(apply([*told, *others])[0], 1)
    assert (one["cat"][0], one["cat_w"][0], one["cat_views"][0]) == (5, 0, 1)
    one = row(apply([*told, *others, Act(1, 1, "dwell", T0, 9, category=99)])[0], 1)
    assert (one["cat"][0], one["cat_views"][0]) == (99, 1)
    assert one["cat_dwell"][0] == pytest.approx(np.log(10))


def test_the_sequential_part_is_that_of_the_reference() -> None:
    assert_as_the_reference(_busy(5, 6000, users=40), [1000, 1001, 3000])
    assert_as_the_reference(_busy(6, 6000, users=2500, span=40 * DAY_MS), [2000])


@given(histories, cuts)
def test_what_depends_on_the_order_is_as_in_the_reference(story: list[Act], where: list[int]) -> None:
    assert_as_the_reference(story, where)


def assert_as_the_reference(story: Sequence[Act], where: Sequence[int]) -> None:
    state, done = apply(story, where)
    reference = ReferenceUsers(GAP_MS)
    pairs = [
        reference.apply(columns(story[p], range(p.start, p.stop))).tobytes()
        for p in pieces(len(story), where)
    ]
    assert pairs == [a.pairs.tobytes() for a in done]
    users = reference.table.keys()
    ours, theirs = (
        state.table.data[state.table.find(users)],
        reference.table.data[reference.table.find(users)],
    )
    for name in reference.table.dtype.names or ():
        if name.endswith(("_w", "_dwell", "_views")):  # exp2 of the two libraries may differ in the last bit
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)
        elif name != "pad":
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def _busy(seed: int, n: int, users: int, span: int = 3 * HOUR_MS) -> list[Act]:
    """Return ``n`` events, mostly in order, some of them late."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["click", "click", "skip", "dwell", "like", "hide"], n)
    ts = T0 + np.sort(rng.integers(0, span, n)) - rng.choice([0, 0, 0, HOUR_MS], n)
    who, what, some = rng.integers(1, users + 1, n), rng.integers(1, 30, n), rng.integers(0, 20, n)
    return [
        Act(int(u), int(i), str(k), int(t), int(s), country=int(s) % 3, category=int(s), creator=int(i) % 25)
        for u, i, k, t, s in zip(who, what, kinds, ts, some, strict=True)
    ]


@given(histories)
def test_counts_against_a_sum(story: list[Act]) -> None:
    state, _ = apply(story)
    spans = {"5m": (MINUTE_MS, 5), "30m": (5 * MINUTE_MS, 6), "1h": (5 * MINUTE_MS, 12)}
    spans |= {"24h": (HOUR_MS, 24), "7d": (DAY_MS, 7)}
    for user in {a.user for a in story}:
        mine = [a for a in story if a.user == user]
        now = max(a.ts for a in mine)
        totals, decayed = np.zeros(len(METRICS)), np.zeros(len(METRICS))
        windows = np.zeros((len(WINDOW_NAMES), len(METRICS)))
        for a in mine:
            told = [(a.kind, 1)] + ([("dwell_s", a.dwell_s)] if a.kind == "dwell" else [])
            for metric, amount in told:
                j = METRICS.index(metric)
                totals[j] += amount
                decayed[j] += amount * 0.5 ** ((now - a.ts) / AFFINITY_HALF_LIFE_MS)
                for w, name in enumerate(WINDOW_NAMES):
                    bucket, n = spans[name]
                    windows[w, j] += amount * (0 <= now // bucket - a.ts // bucket < n)
        one = row(state, user)[None]
        np.testing.assert_array_equal(one["totals"][0], totals)
        np.testing.assert_array_equal([COUNTS.totals(one, m)[0] for m in METRICS], totals)
        np.testing.assert_array_equal(WINDOWS.read(one, now)[0], windows)
        np.testing.assert_allclose(COUNTS.decayed(one, now)[0], decayed, rtol=1e-9)


@given(histories)
def test_inputs_are_left_alone(story: list[Act]) -> None:
    batch = columns(story)
    before = {n: getattr(batch, n).copy() for n in batch.__dataclass_fields__}
    UserState(new_table(), GAP_MS).apply(batch)
    for name, was in before.items():
        np.testing.assert_array_equal(getattr(batch, name), was)


def test_what_was_shown_counts_once_per_offset() -> None:
    state = UserState(new_table(), GAP_MS)
    users, slots = np.array([1, 2, 1], np.uint64), np.array([20, 5, 3])
    ts, offsets = np.full(3, T0), np.array([4, 5, 6])
    rows, fresh = state.shown(users, slots, ts, offsets)
    assert fresh.all()
    assert len(rows) == 2
    again, fresh = state.shown(users, slots, ts, offsets)
    assert not fresh.any()
    assert len(again) == 0
    assert row(state, 1)["totals"].tolist() == [23] + [0] * 8
    assert WINDOWS.read(row(state, 2)[None], T0)[0, :, 0].tolist() == [5] * 5
    assert row(state, 1)["updated"] == T0
    assert row(state, 1)["offset"] == -1, "impressions must not hide events"


def test_counts_stop_at_what_they_can_hold_and_never_wrap() -> None:
    state, _ = apply(clicks((0, 1)))
    click = METRICS.index("click")
    row(state)["totals"][click] = 2**24
    state.apply(columns(clicks((1, 1)), [1]))
    assert int(row(state)["totals"][click]) == 2**24 + 1, "no float32"
    row(state)["totals"][click] = 2**32 - 2
    row(state)["w_7d"][:, click] = 2**16 - 2
    state.apply(columns(clicks((1, 1), (1, 1), (1, 1)), [2, 3, 4]))
    assert int(row(state)["totals"][click]) == 2**32 - 1
    assert row(state)["w_7d"][:, click].max() == 2**16 - 1
    long = [Act(1, 1, "dwell", T0 + MINUTE_MS, 40_000)] * 2
    state.apply(columns(long, [5, 6]))
    assert WINDOWS.read_one(row(state)[None], T0 + MINUTE_MS, "5m", "dwell_s")[0] == 2**16 - 1


@given(histories, cuts)
def test_item_events_are_in_the_order_of_their_numbers(story: list[Act], where: list[int]) -> None:
    _, done = apply(story, where)
    out = np.concatenate([np.zeros(0, ITEM_EVENT), *(item_events(a, 5) for a in done)])
    assert (np.diff(out["source_seq"]) > 0).all()
    assert (out["source_partition"] == 5).all()
    pair = out["kind"] == KIND["pair"]
    forth_and_back = both_ways(np.concatenate([np.zeros(0, ITEM_EVENT), *(a.pairs for a in done)]))
    forth_and_back["source_partition"] = 5
    expected = forth_and_back[np.argsort(forth_and_back["source_seq"])]
    assert out[pair].tobytes() == expected.tobytes()
    assert [
        (
            int(e["source_seq"]),
            int(e["item"]),
            int(e["country"]),
            int(e["ts"]),
            int(e["kind"]),
            float(e["amount"]),
        )
        for e in out[~pair]
    ] == [
        (n * SEQ_STEP, a.item, a.country, a.ts, KIND[a.kind], a.dwell_s if a.kind == "dwell" else 1)
        for n, a in enumerate(story)
        if a.kind not in ("follow", "hide")
    ]


def test_the_kernel_refuses_what_it_was_not_made_for() -> None:
    state, _ = apply(clicks((0, 1)))
    batch = columns(clicks((1, 1)), [1])
    before = rows_of(state)
    for name, value in (("kind", np.int8(99)), ("ts", np.int64(-1)), ("dwell_s", np.float32(np.nan))):
        broken = batch.where(np.ones(1, bool))
        getattr(broken, name)[0] = value
        with pytest.raises(ValueError, match="event of kind"):
            state.apply(broken)
    short = batch.where(np.ones(1, bool))
    short.country = short.country[:0]
    with pytest.raises(ValueError, match="lengths"):
        state.apply(short)
    assert rows_of(state) == before


def test_a_row_is_aligned_so_that_scattered_updates_are_fast() -> None:
    assert ROW.itemsize % 8 == 0
    for name, (dtype, offset, *_) in ROW.fields.items():  # type: ignore[union-attr]
        assert offset % dtype.base.itemsize == 0, name


def test_memory_of_a_user_is_known() -> None:
    assert ROW.itemsize <= 2552


def test_many_users_at_once() -> None:
    rng = np.random.default_rng(3)
    story = [
        Act(int(u), int(i), "click", T0 + n * 1000)
        for n, (u, i) in enumerate(zip(rng.integers(1, 3000, 4000), rng.integers(1, 99, 4000), strict=True))
    ]
    one, _ = apply(story)
    two, _ = apply(story, [1000, 2000, 3000])
    assert len(one.table) > 1024, "the table has grown on the way"
    assert rows_of(one) == rows_of(two)
