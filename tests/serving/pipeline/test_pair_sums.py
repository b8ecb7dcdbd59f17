"""The compiled reading of neighbour rows gives the same bits as arrays of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.state import neighbours
from headrace.serving.pipeline.pair_sums import pair_sums, pairs_in
from headrace.serving.pipeline.pairs import FADE, Pairs

F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def drawn(count: int, share: float, seed: int) -> Any:
    """Return neighbour rows with this share of their slots in use."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, neighbours.ROW)
    for name in ("seq", "co", "seq_recent", "co_recent"):
        used = rng.random(rows[name].shape) < share
        rows[name] = np.where(used, rng.exponential(2, rows[name].shape), 0)
    rows["other"] = rng.integers(1, 40, rows["other"].shape, np.uint64)
    rows["seq_total"], rows["co_total"] = rows["seq"].sum(1), rows["co"].sum(1)
    return rows


def plain(rows: Any, keys: Any) -> tuple[Any, list[F32], dict[str, F32]]:
    """Return the anchors and weights of the pairs, and their sums for some keys."""
    seq, co, lately, near = (rows[name] for name in ("seq", "co", "seq_recent", "co_recent"))
    anchor, slot = np.nonzero((seq > 0) | (co > 0))
    past = np.float32(FADE) ** np.arange(len(rows), dtype=np.float32)
    share = seq[anchor, slot] / np.maximum(rows["seq_total"], np.float32(1e-9))[anchor]
    together = co[anchor, slot] * (past / np.sqrt(1 + rows["co_total"]))[anchor]
    next_recent = (lately / np.maximum(lately.sum(1, keepdims=True), np.float32(1e-9)))[anchor, slot]
    together_recent = (near * (past / np.sqrt(1 + near.sum(1)))[:, None])[anchor, slot]
    seq, other = seq[anchor, slot], rows["other"][anchor, slot]

    def total(weight: Any, where: Any) -> F32:
        out = np.zeros(len(keys))
        for i in np.flatnonzero(where):
            out[keys == other[i]] += weight[i]
        return out.astype(np.float32)

    every = np.ones(len(anchor), bool)
    sums = {
        "next_score": total(seq, anchor == 0),
        "next_share": total(share, anchor == 0),
        "next_share_2": total(share, anchor == 1),
        "next_share_all": total(share * np.float32(FADE) ** anchor.astype(np.float32), every),
        "together": total(together, every),
        "next_recent": total(next_recent, anchor == 0),
        "together_recent": total(together_recent, every),
    }
    return anchor, [seq, share, together, next_recent, together_recent], sums


@given(st.integers(0, 12), st.sampled_from([0.0, 0.1, 0.9]), st.integers(0, 30), st.integers(0, 2**32))
def test_pairs_and_their_sums(count: int, share: float, n: int, seed: int) -> None:
    rows = drawn(count, share, seed)
    keys = np.sort(np.random.default_rng(seed).permutation(np.arange(1, 40, dtype=np.uint64))[:n])
    pairs, (anchor, weights, sums) = Pairs.of(rows), plain(rows, keys)
    assert pairs.anchor.tolist() == anchor.tolist()
    named = [pairs.seq, pairs.share, pairs.together, pairs.next_recent, pairs.together_recent]
    for found, expected in zip(named, weights, strict=True):
        assert found.tobytes() == expected.astype(np.float32).tobytes()
    columns = pairs.columns(keys)
    assert columns.keys() == sums.keys()
    for name, expected in sums.items():
        assert columns[name].dtype == np.float32
        assert columns[name].tobytes() == expected.tobytes(), name


def test_pairs_of_other_rows_and_of_one_that_lies_alone() -> None:
    rows = drawn(3, 0.5, 1)
    with pytest.raises(ValueError, match="3 rows, 2 factors"):
        pairs_in(rows, np.ones(2, np.float32))
    with pytest.raises(ValueError, match="rows of other fields"):
        pairs_in(rows["seq"], np.ones(3, np.float32))
    nothing = pairs_in(rows[:0], np.ones(0, np.float32))
    assert [each.shape for each in nothing[:3]] == [(0,), (0,), (5, 0)]
    assert nothing[3] == 0
    apart = Pairs.of(rows[::2])
    assert apart.weight.tobytes() == Pairs.of(rows[::2].copy()).weight.tobytes()
    assert apart.next_total == rows["seq_total"][0]


def test_columns_that_do_not_fit_are_refused() -> None:
    keys, two = np.arange(5, dtype=np.uint64), np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match="2 neighbours, 1 anchors"):
        pair_sums(keys, np.zeros(1, np.int64), keys[:2], two, np.ones(1, np.float32))
    for anchor in (-1, 1):
        with pytest.raises(ValueError, match=f"anchor {anchor} of 1"):
            pair_sums(keys, np.array([0, anchor]), keys[:2], two, np.ones(1, np.float32))
