"""Sums of the vectors of clicked items: the bits of numpy's, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.vectors.clicked_sums import clicked_sums

DIM = 64


@given(st.integers(0, 10), st.integers(0, 20), st.integers(0, 2**32))
def test_sums_are_those_of_numpy(anchors: int, clicks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = anchors + clicks
    vectors = (rng.choice([0, -0.0, 1e-8, 1.0], (n, DIM)) * rng.standard_normal((n, DIM))).astype(np.float32)
    vectors[rng.random(n) < 0.3] = 0
    rows = rng.integers(-1, 3, n)
    fade = np.array([0.8**k for k in range(anchors)], np.float32)
    found, last, counted = clicked_sums(vectors, rows, anchors, fade)
    expected = np.zeros(DIM, np.float32)
    places = np.flatnonzero(vectors[:anchors].any(1))
    for weight, vector in zip(fade, vectors[places], strict=False):
        expected += weight * vector
    known = vectors[anchors:][rows[anchors:] >= 0]
    if len(known):
        expected += known.mean(0)
    assert found.dtype == np.float32
    assert found.tobytes() == expected.tobytes()
    assert (last, counted) == (places[0] if len(places) else -1, len(known))


def test_shapes_that_do_not_fit_are_refused() -> None:
    vectors, rows, fade = np.ones((3, DIM), np.float32), np.zeros(3, np.int64), np.ones(3, np.float32)
    for wrong in ((vectors, rows[:2], 1, fade), (vectors, rows, 4, fade), (vectors, rows, -1, fade)):
        with pytest.raises(ValueError, match="3 vectors"):
            clicked_sums(*wrong)
    with pytest.raises(ValueError, match="3 anchors, 2 weights"):
        clicked_sums(vectors, rows, 3, fade[:2])
