from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_users import both_ways
from strategies import GAP_MS, T0, Act, columns, offsets_ms, pieces

from headrace.models.state.neighbours import HALF_LIFE_MS, ROW, SLOTS, STEP_MS, Neighbours
from headrace.models.state.users import UserState, new_table
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import MINUTE_MS

Pairs = np.ndarray[Any, Any]


@st.composite
def pair_events(draw: st.DrawFn) -> Pairs:
    rows = draw(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), offsets_ms, st.integers(1, 5)), max_size=50)
    )
    out = np.zeros(len(rows), ITEM_EVENT)
    for i, (item, other, offset, k) in enumerate(rows):
        out[i]["item"], out[i]["other"], out[i]["ts"] = item, other, T0 + offset
        out[i]["seq_weight"], out[i]["amount"], out[i]["kind"] = 1 / k, 1, KIND["pair"]
    return out


def apply(pairs: Pairs, where: Sequence[int] = ()) -> Neighbours:
    state = Neighbours()
    for part in pieces(len(pairs), where):
        state.apply(pairs[part], np.arange(part.start, part.stop))
    return state


def weights(state: Neighbours, item: int) -> dict[int, tuple[float, float]]:
    row = state.table.data[state.table.row(item)]
    return {
        int(o): (float(s), float(c)) for o, s, c in zip(row["other"], row["seq"], row["co"], strict=True) if o
    }


def close(a: Neighbours, b: Neighbours) -> None:
    assert set(a.table.keys().tolist()) == set(b.table.keys().tolist())
    for item in a.table.keys().tolist():
        x, y = weights(a, item), weights(b, item)
        assert x.keys() == y.keys()
        for other in x:
            assert x[other] == pytest.approx(y[other], rel=1e-4, abs=1e-6)
        p, q = a.table.data[a.table.row(item)], b.table.data[b.table.row(item)]
        assert p["updated"] == q["updated"]
        for name in ("seq_total", "co_total"):
            assert float(p[name]) == pytest.approx(float(q[name]), rel=1e-4)


def brute_force(pairs: Pairs) -> dict[int, dict[int, tuple[float, float]]]:
    newest: dict[int, int] = defaultdict(int)
    for p in pairs:
        newest[int(p["item"])] = max(newest[int(p["item"])], int(p["ts"]))
    out: dict[int, dict[int, tuple[float, float]]] = defaultdict(dict)
    for p in pairs:
        item, other = int(p["item"]), int(p["other"])
        fade = 0.5 ** ((newest[item] // STEP_MS - int(p["ts"]) // STEP_MS) * STEP_MS / HALF_LIFE_MS)
        seq, co = out[item].get(other, (0.0, 0.0))
        out[item][other] = (seq + fade * float(p["seq_weight"]), co + fade * float(p["amount"]))
    return out


@given(pair_events())
def test_against_adding_up_one_by_one(pairs: Pairs) -> None:
    state = apply(pairs)
    expected = brute_force(pairs)
    assert set(expected) == set(state.table.keys().tolist())
    for item, others in expected.items():
        got = weights(state, item)
        assert got.keys() == others.keys()
        for other, both in others.items():
            assert got[other] == pytest.approx(both, rel=1e-4, abs=1e-6)
        row = state.table.data[state.table.row(item)]
        assert float(row["seq_total"]) == pytest.approx(sum(s for s, _ in others.values()), rel=1e-4)
        assert float(row["co_total"]) == pytest.approx(sum(c for _, c in others.values()), rel=1e-4)


@given(pair_events(), st.lists(st.integers(0, 50), max_size=6))
def test_batches_do_not_matter(pairs: Pairs, where: list[int]) -> None:
    whole = apply(pairs)
    assert rows_of(whole) == rows_of(apply(pairs, where)) == rows_of(apply(pairs, range(len(pairs))))


def rows_of(state: Neighbours) -> dict[int, bytes]:
    return dict(zip(state.table.keys().tolist(), state.table.pack(state.table.rows()), strict=True))


@given(pair_events(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(pairs: Pairs, random: Any) -> None:
    order = list(range(len(pairs)))
    random.shuffle(order)
    close(apply(pairs), apply(pairs[order]))


@given(pair_events(), st.lists(st.integers(0, 50), max_size=6), st.integers(0, 50))
def test_a_batch_delivered_again_changes_nothing(pairs: Pairs, where: list[int], half: int) -> None:
    state = apply(pairs, where)
    before = rows_of(state)
    assert len(state.apply(pairs, np.arange(len(pairs)))) == 0
    assert rows_of(state) == before
    crashed = apply(pairs[:half])
    crashed.apply(pairs, np.arange(len(pairs)))
    close(crashed, apply(pairs))


@given(pair_events())
def test_inputs_are_left_alone(pairs: Pairs) -> None:
    before = pairs.tobytes()
    apply(pairs)
    both_ways(pairs)
    assert pairs.tobytes() == before


def strengths(item: int, others: Sequence[tuple[int, float]], ts: int = T0) -> Pairs:
    out = np.zeros(len(others), ITEM_EVENT)
    out["item"], out["ts"], out["kind"] = item, ts, KIND["pair"]
    out["other"] = [o for o, _ in others]
    out["seq_weight"] = out["amount"] = [w for _, w in others]
    return out


def test_a_new_neighbour_of_a_full_row_takes_the_weakest_place() -> None:
    full = strengths(1, [(o, 2.0 + o) for o in range(10, 10 + SLOTS)])
    state = apply(np.concatenate([full, strengths(1, [(999, 1.0)])]), [SLOTS])
    kept = weights(state, 1)
    assert len(kept) == SLOTS
    assert 10 not in kept
    assert kept[999] == pytest.approx((1, 1)), "it must not inherit a weight it has not earned"


def test_far_more_neighbours_than_places() -> None:
    rng = np.random.default_rng(1)
    others = rng.zipf(1.5, 5000) % 3000 + 1
    state = Neighbours()
    for i, part in enumerate(np.array_split(others, 50)):
        state.apply(strengths(1, [(int(o), 1.0) for o in part]), i * 100 + np.arange(len(part)))
    kept = weights(state, 1)
    assert len(kept) == SLOTS
    counts = np.bincount(others)
    assert set(np.argsort(-counts)[:15].tolist()) <= set(kept), "the strong ones stay"
    for other, (seq, _) in kept.items():
        assert seq <= counts[other] + 1e-3, "no weight is overstated"


def test_a_pair_becomes_next_one_way_and_together_both_ways() -> None:
    story = [Act(1, i, "click", T0 + i) for i in (1, 2, 3)]
    pairs = UserState(new_table(), GAP_MS).apply(columns(story)).pairs
    out = both_ways(pairs)
    assert [(int(p["item"]), int(p["other"]), float(p["seq_weight"]), float(p["amount"])) for p in out] == [
        (1, 2, 1, 1),
        (2, 3, 1, 1),
        (1, 3, 0.5, 1),
        (2, 1, 0, 1),
        (3, 2, 0, 1),
        (3, 1, 0, 1),
    ]
    assert len(set(out["source_seq"].tolist())) == len(out), "two records of one source share a number"
    state = apply(out)
    assert weights(state, 1) == {2: (1, 1), 3: (0.5, 1)}
    assert weights(state, 3) == {2: (0, 1), 1: (0, 1)}


def test_numbers_of_two_clicks_do_not_overlap() -> None:
    story = [Act(1, i, "click", T0 + i) for i in range(1, 30)]
    out = both_ways(UserState(new_table(), GAP_MS).apply(columns(story)).pairs)
    assert len(set(out["source_seq"].tolist())) == len(out)


def test_nothing() -> None:
    state = Neighbours()
    assert len(state.apply(np.zeros(0, ITEM_EVENT), np.zeros(0, np.int64))) == 0
    assert len(both_ways(np.zeros(0, ITEM_EVENT))) == 0


def test_batches_do_not_matter_when_places_are_short() -> None:
    rng = np.random.default_rng(2)
    story = strengths(1, [(int(o), 1.0) for o in rng.zipf(1.3, 3000) % 2000 + 1])
    story["ts"] += np.arange(3000) * 7_000
    whole = apply(story)
    assert (whole.table.data["other"][whole.table.row(1)] != 0).all()
    assert rows_of(whole) == rows_of(apply(story, [7, 500, 501, 2222])) == rows_of(apply(story, range(3000)))


def test_neighbours_of_an_item_that_is_never_idle_fade_all_the_same() -> None:
    n = 40_000
    story = strengths(1, [(2, 1.0)] + [(3, 1e-9)] * n)
    story["ts"][1:] += np.arange(1, n + 1) * 20  # a float32 does not feel the decay of 20 ms
    seq, _ = weights(apply(story), 1)[2]
    assert seq == pytest.approx(0.5 ** (n * 20 / HALF_LIFE_MS), abs=STEP_MS / HALF_LIFE_MS)
    assert seq < 0.9995


def test_records_of_one_offset_count_together_and_once() -> None:
    pairs = strengths(1, [(2, 1.0), (3, 1.0), (2, 1.0)])
    state = Neighbours()
    assert len(state.apply(pairs, np.full(3, 7))) == 1
    assert weights(state, 1) == {2: (2, 2), 3: (1, 1)}
    assert len(state.apply(pairs, np.full(3, 7))) == 0
    assert weights(state, 1) == {2: (2, 2), 3: (1, 1)}


def test_a_hot_item() -> None:
    pairs = strengths(1, [(o % 40 + 1, 1.0) for o in range(4000)])
    state = apply(pairs)
    assert sum(s for s, _ in weights(state, 1).values()) == pytest.approx(4000)


def test_a_row_is_aligned() -> None:
    assert ROW.itemsize % 8 == 0
    for name, (field, offset, *_) in ROW.fields.items():  # type: ignore[union-attr]
        assert offset % field.base.itemsize == 0, name


def test_the_weights_of_late_pairs_fade_within_minutes() -> None:
    pairs = strengths(1, [(7, 1.0), (8, 1.0)])
    pairs["ts"][1] += 30 * MINUTE_MS
    state = apply(pairs)
    row = state.table.data[state.table.row(1)]
    assert row["other"][:2].tolist() == [7, 8]
    for name in ("seq_recent", "co_recent"):
        old, new = row[name][:2].tolist()
        assert old / new == pytest.approx(0.5, rel=1e-3), name
    assert row["seq"][0] / row["seq"][1] == pytest.approx(1, rel=0.01)


@given(
    st.lists(
        st.tuples(st.integers(1, 2 * SLOTS), st.integers(0, 3), st.integers(-3, 400)),
        min_size=80,
        max_size=400,
    )
)
def test_rows_are_those_of_a_plain_reference(told: list[tuple[int, int, int]]) -> None:
    """Also when places are short, weights are equal, and pairs come late: bit for bit."""
    pairs = strengths(1, [(other, float(weight)) for other, weight, _ in told])
    pairs["ts"] += np.array([minute for _, _, minute in told]) * STEP_MS
    state = apply(pairs, [len(told) // 2])
    row, plain = state.table.data[state.table.row(1)], plain_row(pairs)
    for name in ("other", "seq", "co", "seq_total", "co_total", "updated"):
        assert row[name].tobytes() == plain[name].tobytes(), name


def plain_row(pairs: Pairs) -> Any:
    row = np.zeros(1, ROW)[0]
    for e in pairs:
        age = int(row["updated"]) // STEP_MS - int(e["ts"]) // STEP_MS
        if age < 0:
            for name in ("seq", "co", "seq_total", "co_total"):
                row[name] *= factor(-age)
        own = factor(max(age, 0))
        row["updated"] = max(row["updated"], e["ts"])
        seq, co = e["seq_weight"] * own, np.float32(e["amount"]) * own
        row["seq_total"] += seq
        row["co_total"] += co
        known = np.flatnonzero((row["other"] == e["other"]) | (row["other"] == 0))
        if len(known) and row["other"][known[0]] == e["other"]:
            row["seq"][known[0]] += seq
            row["co"][known[0]] += co
            continue
        place = known[0] if len(known) else np.argmin(row["seq"] + row["co"])
        row["other"][place], row["seq"][place], row["co"][place] = e["other"], seq, co
    return row


def factor(steps: int) -> np.float32:
    return np.float32(math.exp2(-(steps * STEP_MS) / HALF_LIFE_MS))
