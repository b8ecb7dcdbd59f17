"""Thompson sampling with known chances: how likely each item's draw is the largest."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64

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
    t = _grid(a, b)
    density = _density(t, a, b)
    step = np.diff(t)
    area = np.zeros_like(density)
    np.cumsum((density[:, 1:] + density[:, :-1]) * (0.5 * step), axis=1, out=area[:, 1:])
    total = area[:, -1:]
    below = _product_of_others(area / total) * density / total
    chance: F64 = ((below[:, 1:] + below[:, :-1]) * (0.5 * step)).sum(1)
    chance = np.maximum(chance / chance.sum(), LEAST)
    chance /= chance.sum()
    return chance


def _grid(a: F64, b: F64) -> F64:
    """Return log-odds in ascending order, float64."""
    k = len(a)
    each = max(_EACH, -(-_ALL // k))
    spread = np.sqrt(1 / a + 0.5 / a**2 + 1 / b + 0.5 / b**2)
    # Items with similar counts have other points, so that together they make a finer grid.
    shift = np.arange(k) * _GOLDEN % 1
    offsets = (np.arange(each) + shift[:, None]) * (2 * _FAR / each) - _FAR
    return np.sort((np.log(a / b)[:, None] + spread[:, None] * offsets).ravel())


def _density(t: F64, a: F64, b: F64) -> F64:
    """Return the densities of log-odds at ``t``, 1 at each item's mode, float64 ``(k, len(t))``."""
    log_x, log_1_x = -np.logaddexp(0, -t), -np.logaddexp(0, t)
    top = a * np.log(a / (a + b)) + b * np.log(b / (a + b))
    out: F64 = np.exp(np.multiply.outer(a, log_x) + np.multiply.outer(b, log_1_x) - top[:, None])
    return out


def _product_of_others(x: F64) -> F64:
    """Return, for each row, the product of all other rows, same shape."""
    before, after = np.ones_like(x), np.ones_like(x)
    np.cumprod(x[:-1], axis=0, out=before[1:])
    np.cumprod(x[:0:-1], axis=0, out=after[-2::-1])
    return before * after
