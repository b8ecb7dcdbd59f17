"""Thompson sampling with known chances: how likely each item's draw is the largest."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64
from headrace.serving.rerank.largest_draws import chances_of_largest, grid

#: Points of the grid: at least so many for each item, and for all; how far from its mode they go, in standard
#: deviations; and a step that puts the points of similar items at different places.
_EACH, _ALL, _FAR = 6, 120, 5.0
_GOLDEN = 0.618034
#: No item has a smaller chance. So the weight of an example, one over its chance, stays finite.
LEAST = 1e-9


def largest_draw(a: F64, b: F64) -> F64:
    """Return the chance that a draw of ``Beta(a[i], b[i])`` is larger than those of all others.

    Parameters
    ----------
    a, b
        Above 0, float64 ``(k,)``.

    Returns
    -------
    float64 ``(k,)``, sum 1, each at least about ``LEAST``.

    Notes
    -----
    The chance is the integral of the density of one item times the distribution functions of the others. It
    is computed on the scale of log-odds, where a Beta density is a bell, with the trapezoidal rule. Each item
    has points of the grid around its own bell, so both wide and narrow ones are resolved.
    """
    if len(a) < 2:
        return np.ones(len(a))
    chance: F64 = chances_of_largest(_grid(a, b), np.ascontiguousarray(a), np.ascontiguousarray(b))
    chance = np.maximum(chance / np.add.reduce(chance), LEAST)
    chance /= np.add.reduce(chance)
    return chance


def _grid(a: F64, b: F64) -> F64:
    """Return log-odds in ascending order, float64."""
    # Items with similar counts have other points, so that together they make a finer grid.
    out: F64 = grid(a, b, np.log(a / b), max(_EACH, -(-_ALL // len(a))), _FAR, _GOLDEN)
    out.sort()
    return out
