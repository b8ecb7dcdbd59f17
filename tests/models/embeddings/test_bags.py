from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings.bags import add_bags, dot_bags, spread_bags

Floats = npt.NDArray[Any]
I64 = npt.NDArray[np.int64]


@st.composite
def bags(draw: st.DrawFn) -> tuple[Floats, I64, Floats, I64, Floats]:
    """Draw rows, members, weights, bounds, and one gradient for each bag."""
    kind = draw(st.sampled_from([np.float32, np.float64]))
    n, width, sizes = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.lists(st.integers(0, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    members = rng.integers(0, n, bounds[-1])
    rows, weights = rng.normal(size=(n, width)).astype(kind), rng.normal(size=len(members)).astype(kind)
    return rows, members, weights, bounds, rng.normal(size=(len(sizes), width)).astype(kind)


@given(bags())
def test_sums_and_gradients_are_those_of_plain_loops(
    given_: tuple[Floats, I64, Floats, I64, Floats],
) -> None:
    rows, members, weights, bounds, grads = given_
    sums, spread, dots = np.ones_like(grads), np.ones_like(rows), np.zeros_like(weights)
    add_bags(rows, members, weights, bounds, sums)
    spread_bags(grads, members, weights, bounds, spread)
    dot_bags(grads, rows, members, bounds, dots)
    plain_sums, plain_spread, plain_dots = np.ones_like(grads), np.ones_like(rows), np.zeros_like(weights)
    for i in range(len(grads)):
        for j in range(bounds[i], bounds[i + 1]):
            plain_sums[i] += weights[j] * rows[members[j]]
            plain_spread[members[j]] += weights[j] * grads[i]
            plain_dots[j] = grads[i] @ rows[members[j]]
    np.testing.assert_array_equal(sums, plain_sums)
    np.testing.assert_array_equal(spread, plain_spread)
    np.testing.assert_allclose(dots, plain_dots, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    rows, weights, bounds = np.ones((3, 2), np.float32), np.ones(2, np.float32), np.array([0, 2])
    out = np.zeros((1, 2), np.float32)
    for members in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="there is no row"):
            add_bags(rows, np.array(members), weights, bounds, out)
    members = np.array([0, 1])
    with pytest.raises(ValueError, match="shapes"):
        add_bags(rows, members, weights[:1], bounds, out)
    with pytest.raises(ValueError, match="shapes"):
        spread_bags(out, members, weights, bounds, np.ones((3, 1), np.float32))
    with pytest.raises(ValueError, match="bounds"):
        dot_bags(out, rows, members, np.array([0, 1]), weights)
    with pytest.raises(ValueError, match="do not grow"):
        add_bags(rows, members, weights, np.array([0, 3, 2]), np.zeros((2, 2), np.float32))
