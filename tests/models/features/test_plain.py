"""Compiled features are the same bytes as those of numpy, one column at a time (``plain_features``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from feature_inputs import candidates, context
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_features import assembled
from strategies import T0

from headrace.models.embeddings import DIM
from headrace.models.features.assemble import SURFACES, assemble
from headrace.models.features.history import History
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.spec import SPEC
from headrace.models.state import items as item_state
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.windows import Windows

Rng = np.random.Generator
#: Amounts that are often 0, often the same, and sometimes far away.
AMOUNTS = (0, 0, 0, 0.25, 0.5, 1, 3, 3.7, 1e-30, 1e6, 3e20)
TIMES = (0, 0, -5, 1, T0 - 90 * DAY_MS, T0 - HOUR_MS, T0 - 1, T0, T0 + 1, T0 + DAY_MS, 2**60)


def filled(rng: Rng, rows: Any, windows: Windows, now: int, *, extreme: bool) -> None:
    """Put counts into rows, in heads before and after ``now``, up to the largest ones."""
    for tier in windows.tiers:
        bucket = max(now, 0) // tier.bucket_ms
        heads = bucket + rng.integers(-tier.ring - 3, 4, len(rows))
        rows[f"h_{tier.name}"] = np.where(rng.random(len(rows)) < 0.2, 0, np.maximum(heads, 0))
        low = rows[f"w_{tier.name}"]
        low[:] = rng.poisson(rng.choice([0, 0.1, 3]), low.shape)
        if extreme:
            low[rng.random(low.shape) < 0.1] = rng.integers(0, 2**16)
            if f"x_{tier.name}" in rows.dtype.names:
                high = rows[f"x_{tier.name}"]
                high[rng.random(high.shape) < 0.02] = rng.integers(0, np.iinfo(high.dtype).max + 1)
    rows["totals"] = rng.choice([0, 1, 77, 2**32 - 1], rows["totals"].shape)


def some_keys(rng: Rng, n: int, few: bool) -> Any:
    """Return hashes, some of them 0."""
    most = rng.integers(1, 2**64, 12 if few else max(1, n), dtype=np.uint64)
    return np.append(most, np.uint64(0))[rng.integers(0, len(most) + 1, n)]


def some_candidates(rng: Rng, n: int, now: int, *, extreme: bool) -> Candidates:
    rows = np.full(n, item_state.BLANK, item_state.ROW)
    filled(rng, rows, item_state.WINDOWS, now, extreme=extreme)
    rows["totals_x"] = rng.choice([0, 0, 0, 255], rows["totals_x"].shape)
    rows["first_ts"], rows["last_click"] = rng.choice(TIMES, n), rng.choice(TIMES, n)
    names = ("country_clicks", "next_score", "next_share", "next_share_2", "together")
    late = ("next_share_all", "next_recent", "together_recent")
    given = [*names, *(name for name in late if rng.random() < 0.8)]
    amounts = {name: rng.choice(AMOUNTS, n).astype(np.float32) for name in given}
    if rng.random() < 0.5:
        amounts |= {name: rng.random(n, np.float32) for name in given}
    lengths = rng.choice([0, 0, 1, 999, 60_000, 2**45, -3], n)
    return replace(
        candidates(n),
        items=some_keys(rng, n, few=False),
        stats=rows,
        category=some_keys(rng, n, few=bool(rng.random() < 0.7)),
        creator=some_keys(rng, n, few=bool(rng.random() < 0.3)),
        published=rng.choice(TIMES, n),
        vectors=rng.standard_normal((n, DIM)).astype(np.float32),
        duration=[None, np.zeros(n, np.int64), lengths][rng.integers(0, 3)],
        language=None if rng.random() < 0.3 else some_keys(rng, n, few=True),
        next_total=float(rng.choice(AMOUNTS)),
        **amounts,
    )


def known_of(rng: Rng, keys: Any, size: int) -> Any:
    """Return some of the keys and others, with 0 and doubles among them."""
    others = rng.integers(0, 2**64, 3, dtype=np.uint64)
    return rng.choice(np.concatenate([keys, others, np.zeros(2, np.uint64)]), size)


def some_user(rng: Rng, c: Candidates, now: int, *, extreme: bool) -> Any:
    user = np.full(1, user_state.BLANK, user_state.ROW)
    if rng.random() < 0.1:
        return user
    filled(rng, user, user_state.WINDOWS, now, extreme=extreme)
    user["n_clicks"], user["session_len"] = rng.choice([0, 1, 19, 20, 21, 2**40]), rng.choice([0, 3, 2**30])
    user["recent_ts"] = rng.choice(TIMES, user["recent_ts"].shape)
    for name, keys in (
        *(("cat", c.category), ("preferred", c.category)),
        *(("creator", c.creator), ("followed", c.creator), ("recent", c.items)),
    ):
        if rng.random() < 0.8:
            user[name] = known_of(rng, keys, user[name].shape[1])
    for name in ("cat_w", "creator_w"):
        if rng.random() < 0.8:
            user[name] = rng.choice([-3.5, -1e-38, 0, 0.1, 2, 1e20], user[name].shape)
    if rng.random() < 0.8:
        user["cat_views"] = rng.choice([0, 0, 1e-38, 0.1, 2, 400], user["cat_views"].shape)
        user["cat_dwell"] = rng.choice([0, 0.1, 3.5, 1e3], user["cat_dwell"].shape)
    return user


def some_context(rng: Rng, c: Candidates, now: int) -> RequestContext:
    past = None
    if rng.random() < 0.8:
        m = int(rng.integers(0, 150))
        weights = np.array([-2, -0.3, 0, 0.2, 1.79], np.float32)
        past = History(known_of(rng, c.category, m), rng.choice(weights, (2, m)))
    language = 0 if c.language is None or rng.random() < 0.3 else int(known_of(rng, c.language, 1)[0])
    return context(
        now=now,
        country=hash64(str(rng.choice(["", "BR", "IN", "XX"]))),
        device=str(rng.choice(["", "web", "tv"])),
        surface=str(rng.choice(SURFACES)),
        user_vector=rng.standard_normal(DIM).astype(np.float32),
        last_vector=np.zeros(DIM, np.float32) if rng.random() < 0.2 else rng.random(DIM, np.float32),
        last_category=int(known_of(rng, c.category, 1)[0]),
        last_creator=int(known_of(rng, c.creator, 1)[0]),
        age=int(rng.integers(-1, 90)),
        language=language,
        history=past,
        shown=some_shown(rng, c),
    )


def some_shown(rng: Rng, c: Candidates) -> Any:
    """Return what the user was shown."""
    if rng.random() < 0.2:
        return None
    row = np.full(1, shown_state.BLANK, shown_state.ROW)
    n = int(rng.integers(0, row["items"].shape[1] + 1))
    row["count"], row["items"][0, :n] = n, known_of(rng, c.items, n)
    row["times"][0, :n], row["counts"][0, :n] = rng.integers(0, 2 * T0 // 1000, n), rng.integers(1, 200, n)
    return row


def check(user: Any, c: Candidates, ctx: RequestContext) -> None:
    found, expected = assemble(user, c, ctx), assembled(user, c, ctx)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.strides == expected.strides
    for name, column, wanted in zip(SPEC.names, found.T, expected.T, strict=True):
        assert column.tobytes() == wanted.tobytes(), name


@settings(max_examples=300)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2, 7, 8, 9, 31, 127, 128, 129, 300, 500, 1030]),
    st.sampled_from([T0, T0 + 12_345_678, 0, 1, -HOUR_MS]),
    st.booleans(),
    st.booleans(),
)
def test_features_are_the_same_bytes(seed: int, n: int, now: int, known: bool, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    c = some_candidates(rng, n, now, extreme=extreme)
    user = some_user(rng, c, now, extreme=extreme) if known else None
    check(user, c, some_context(rng, c, now))


def apart(values: Any) -> Any:
    """Return an array with the same values that is every other row of a larger one."""
    out = np.zeros((2 * len(values), *values.shape[1:]), values.dtype)
    out[::2] = values
    return out[::2]


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_arrays_that_are_not_in_one_piece_are_read_where_they_are(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    c = some_candidates(rng, n, T0, extreme=False)
    user, ctx = some_user(rng, c, T0, extreme=False), some_context(rng, c, T0)
    names = [name for name in c.__dataclass_fields__ if isinstance(getattr(c, name), np.ndarray)]
    spread = replace(c, **{name: apart(getattr(c, name)) for name in names})
    past = ctx.history and History(
        apart(ctx.history.category), np.asfortranarray(np.repeat(ctx.history.evidence, 2, 1))[:, ::2]
    )
    check(apart(user), spread, replace(ctx, history=past))


def test_rows_at_an_odd_address_are_read() -> None:
    rng = np.random.default_rng(0)
    c = some_candidates(rng, 5, T0, extreme=True)
    user, ctx = some_user(rng, c, T0, extreme=True), some_context(rng, c, T0)

    def moved(rows: Any) -> Any:
        return np.frombuffer(b"-" + rows.tobytes(), rows.dtype, offset=1)

    found = assemble(moved(user), replace(c, stats=moved(c.stats)), ctx)
    assert found.tobytes() == assembled(user, c, ctx).tobytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"stats": np.zeros(2, item_state.ROW)},
        {"stats": np.zeros(3, user_state.ROW)},
        {"published": np.zeros(2, np.int64)},
        {"duration": np.ones(4, np.int64)},
        {"creator": np.zeros(2, np.uint64)},
        {"language": np.zeros(4, np.uint64)},
        {"vectors": np.zeros((2, DIM), np.float32)},
        {"country_clicks": np.zeros((3, 1), np.float32)},
        {"together": np.zeros(4, np.float32)},
        {"next_share_all": np.zeros(2, np.float32)},
        {"together_recent": np.zeros(2, np.float32)},
    ],
)
def test_columns_of_another_length_are_refused(wrong: dict[str, Any]) -> None:
    user = np.full(1, user_state.BLANK, user_state.ROW)
    user["creator_w"] = 1
    with pytest.raises(ValueError, match=r"."):
        assemble(user, replace(candidates(3), **wrong), context(language=7, last_creator=3))


@pytest.mark.parametrize("shape", [(1, 3), (3, 2), (2, 4)])
def test_a_past_needs_two_amounts_for_each_item(shape: tuple[int, int]) -> None:
    past = History(np.ones(3, np.uint64), np.ones(shape, np.float32))
    with pytest.raises(ValueError, match="3 keys"):
        assemble(None, candidates(3), context(history=past))


def test_a_surface_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        assemble(None, candidates(3), context(surface="elsewhere"))
