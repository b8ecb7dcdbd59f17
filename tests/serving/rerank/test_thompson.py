from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.rerank.largest_draws import chances_of_largest
from headrace.serving.rerank.thompson import LEAST, _grid, largest_draw

counts = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 3.0, 40.0, 2000.0]), st.sampled_from([0.5, 1.0, 20.0, 900.0, 5e4])),
    min_size=1,
    max_size=32,
)


def chances(*items: tuple[float, float]) -> np.ndarray:  # type: ignore[type-arg]
    a, b = np.array(items, np.float64).T
    return largest_draw(a, b)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([(1, 1)], [1]),
        ([(1, 1), (1, 1)], [1 / 2, 1 / 2]),
        (
            [(2, 1), (1, 1)],
            [2 / 3, 1 / 3],
        ),  # a draw of Beta(a, 1) is above that of Beta(c, 1) with a / (a + c)
        ([(3, 1), (2, 1), (1, 1)], [1 / 2, 1 / 3, 1 / 6]),
        ([(1, 3), (1, 1)], [1 / 4, 3 / 4]),  # Beta(1, b) above Beta(1, c): c / (b + c)
        ([(1, 20)] * 20, [1 / 20] * 20),
        ([(1e6, 1e6), (1, 1)], [1 / 2, 1 / 2]),
        ([(1e5, 1e5), (1e5, 1e5 + 2000)], [0.99922, 0.00078]),  # 3.16 standard deviations of the difference
        ([(50, 1), (1, 5000)], [1, 0]),
    ],
)
def test_known_chances(items: list[tuple[float, float]], expected: list[float]) -> None:
    np.testing.assert_allclose(chances(*items), expected, atol=0.004)


@pytest.mark.parametrize("seed", range(6))
def test_the_chances_of_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(3, 32))
    a = 1.0 + rng.integers(0, [3, 30, 2000][seed % 3], k)
    b = 20.0 + rng.integers(0, [90, 400, 20_000][seed % 3], k)
    runs = 40_000
    won = np.bincount(rng.beta(a, b, (runs, k)).argmax(1), minlength=k) / runs
    np.testing.assert_allclose(largest_draw(a, b), won, atol=0.01)


@given(counts)
def test_chances_are_chances(items: list[tuple[float, float]]) -> None:
    out = chances(*items)
    assert out.sum() == pytest.approx(1, abs=1e-12)
    assert (out >= LEAST * 0.99).all()


def test_items_with_the_same_record_have_the_same_chance() -> None:
    out = chances((1, 20), (4, 60), (1, 20), (4, 60), (1, 20))
    np.testing.assert_allclose(out[[0, 2, 4]], out[0], atol=0.002)
    np.testing.assert_allclose(out[[1, 3]], out[1], atol=0.002)


@given(counts)
def test_the_compiled_integral_is_the_plain_one(items: list[tuple[float, float]]) -> None:
    a, b = np.array(items, np.float64).T
    t = _grid(a, b)
    log_x, log_1_x = -np.logaddexp(0, -t), -np.logaddexp(0, t)
    top = a * np.log(a / (a + b)) + b * np.log(b / (a + b))
    density = np.exp(np.multiply.outer(a, log_x) + np.multiply.outer(b, log_1_x) - top[:, None])
    area = np.zeros_like(density)
    half = 0.5 * np.diff(t)
    np.cumsum((density[:, 1:] + density[:, :-1]) * half, axis=1, out=area[:, 1:])
    density, below = density / area[:, -1:], area / area[:, -1:]
    wins = np.array([density[i] * np.delete(below, i, 0).prod(0) for i in range(len(a))])
    expected = (wins[:, 1:] + wins[:, :-1]) @ half
    found = chances_of_largest(t, np.ascontiguousarray(a), np.ascontiguousarray(b))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_every_draw_has_both_parameters() -> None:
    with pytest.raises(ValueError, match="2 and 1 parameters, 3 points"):
        chances_of_largest(np.arange(3.0), np.ones(2), np.ones(1))
