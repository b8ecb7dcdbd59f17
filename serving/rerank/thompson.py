"""Thompson sampling with known chances: how likely each item's draw is the largest."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F32, F64

#: Points of the grid: at least so many for each item, and for all; how far from its mode they go, in standard
#: deviations; and a step that puts the points of similar items at different places.
_EACH, _ALL, _FAR = 6, 120, 5.0
_GOLDEN = 0.618034
_TINY = np.float32(1e-30)
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
    half = (0.5 * np.diff(t)).astype(np.float32)
    area = np.zeros_like(density)
    np.cumsum((density[:, 1:] + density[:, :-1]) * half, axis=1, out=area[:, 1:])
    total = area[:, -1:]
    log_below = np.log(np.maximum(area / total, _TINY))
    wins = np.exp(log_below.sum(0) - log_below) * (density / total)
    chance: F64 = ((wins[:, 1:] + wins[:, :-1]) @ half).astype(np.float64)
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


def _density(t: F64, a: F64, b: F64) -> F32:
    """Return the densities of log-odds at ``t``, 1 at each item's mode, float32 ``(k, len(t))``."""
    log_x, log_1_x = -np.logaddexp(0, -t), -np.logaddexp(0, t)
    top = a * np.log(a / (a + b)) + b * np.log(b / (a + b))
    log_density = np.multiply.outer(a, log_x) + np.multiply.outer(b, log_1_x) - top[:, None]
    return np.exp(log_density.astype(np.float32))
