# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Features of the taste, compiled: how much more often than others a user is likely to click a category."""

from libc.stdint cimport int64_t, uint64_t

from headrace.models.features.columns cimport BY_CATEGORY, Columns

import numpy as np

from headrace.models.features import history as _history
from headrace.models.features.spec import SPEC

cdef Py_ssize_t CATEGORY_LIFT = SPEC.index("category_lift")
cdef Py_ssize_t CATEGORY_LIFT_NOW = SPEC.index("category_lift_now")
cdef Py_ssize_t TASTE_PRIOR = SPEC.index("taste_prior")
cdef Py_ssize_t CATEGORY_CLICKED = SPEC.index("category_clicked")
cdef Py_ssize_t CATEGORY_PASSED = SPEC.index("category_passed")
cdef Py_ssize_t CATEGORY_RATE = SPEC.index("category_rate")
cdef Py_ssize_t CATEGORY_PREFERRED = SPEC.index("category_preferred")
cdef Py_ssize_t ITEM_CTR = SPEC.index("item_ctr_24h")

cdef float ONE = 1
cdef float TIMES = _history.TIMES
#: Before anything is known, a user likes one category, and not so many others.
cdef float OTHERS = 15
cdef float USUAL = (ONE + OTHERS) / (TIMES + OTHERS)
#: What they become more when the user names the category as preferred, and when they name only others.
cdef float NAMED = 3, NOT_NAMED = -1.5


def fill_lifts(Columns m not None, ctx, *, bint names):
    cdef Py_ssize_t i, g, n = m.groups
    given = np.empty(2 * n, np.float32)
    cdef float[::1] odds = given  # the negative log-odds, in the long and the short memory
    cdef const float[::1] others
    cdef float *rate = m.column(ITEM_CTR)
    cdef float *named = m.column(CATEGORY_PREFERRED)
    cdef float *lift = m.log_of(CATEGORY_LIFT, BY_CATEGORY)
    cdef float *now = m.log_of(CATEGORY_LIFT_NOW, BY_CATEGORY)
    cdef float *prior = m.log_of(TASTE_PRIOR)
    for g in range(2 * n):
        odds[g] = 0
    if ctx.history is not None:
        _evidence(m, ctx.history.category, ctx.history.evidence, &odds[0])
    if names:
        for i in range(m.n):
            m.numbers[m.group[i]] = NAMED if named[i] > 0 else NOT_NAMED
        for g in range(n):
            if m.keys[g]:
                odds[g] += m.numbers[g]
    for g in range(2 * n):
        odds[g] = -odds[g]
    others = np.exp(given)
    for g in range(n):
        lift[g] = _rate(others[g])
        now[g] = _rate(others[n + g])
    for i in range(m.n):
        prior[i] = rate[i]


cdef inline float _rate(float odds) noexcept:
    """Return the expected click rate, against that of a category nothing is known of.

    Liked categories are clicked ``TIMES`` as often as others. ``odds`` are those not to be liked, times those
    at the beginning.
    """
    cdef float others = odds * OTHERS
    return (TIMES + others) / (ONE + others) * USUAL


cdef int _evidence(Columns m, category, evidence, float *odds) except -1:
    """Add up what a user's past says of each category, and fill what was clicked and passed of it."""
    cdef const uint64_t[:] keys = np.asarray(category, np.uint64)
    cdef const float[:, :] given = evidence
    cdef Py_ssize_t k, g, n = m.groups
    cdef int64_t group
    cdef float *clicked = m.log1p_of(CATEGORY_CLICKED, BY_CATEGORY)
    cdef float *passed = m.log1p_of(CATEGORY_PASSED, BY_CATEGORY)
    if given.shape[0] != 2 or given.shape[1] != keys.shape[0]:
        raise ValueError(f"{keys.shape[0]} keys, {given.shape[0]} times {given.shape[1]} amounts")
    for g in range(n):
        clicked[g] = 0
    for k in range(keys.shape[0]):
        group = m.group_of(keys[k]) if keys[k] else -1
        if group >= 0:
            odds[group] += given[0, k]
            odds[n + group] += given[1, k]
            if not given[0, k] <= 0:
                clicked[group] += given[0, k]
    for g in range(n):
        passed[g] = clicked[g] - odds[g]
        if passed[g] <= 0:
            passed[g] = 0
    return 0


def fill_sums(Columns m not None):
    cdef float *clicked = m.column(CATEGORY_CLICKED)
    cdef float *passed = m.column(CATEGORY_PASSED)
    cdef float *rate = m.column(CATEGORY_RATE)
    cdef float *lift = m.column(CATEGORY_LIFT)
    cdef float *prior = m.column(TASTE_PRIOR)
    cdef Py_ssize_t i
    for i in range(m.n):
        rate[i] = clicked[i] - passed[i]
        prior[i] = prior[i] + lift[i]
