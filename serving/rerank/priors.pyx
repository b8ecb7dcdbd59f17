# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What is known of the clicks of candidates, and what their categories and creators suggest, compiled."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np


def counts_of(
    const uint32_t[:, :] totals not None, const uint8_t[:, :] more not None, Py_ssize_t click, Py_ssize_t shown,
    const int64_t[:] published not None, int64_t now, int64_t fresh_ms, double fresh_shown, double tail_clicks
):
    cdef Py_ssize_t n = totals.shape[0], i
    cdef double clicks, seen
    if more.shape[0] != n or published.shape[0] != n:
        raise ValueError(f"{n} and {more.shape[0]} rows, {published.shape[0]} times")
    if not (0 <= click < totals.shape[1] <= more.shape[1] and 0 <= shown < totals.shape[1]):
        raise IndexError(f"metrics {click} and {shown} of {totals.shape[1]}")
    counts, marks = np.empty((2, n)), np.empty((2, n), np.bool_)
    cdef double[:, ::1] count = counts
    cdef uint8_t[:, ::1] mark = marks.view(np.uint8)
    for i in range(n):
        clicks = <double> (totals[i, click] | <uint64_t> more[i, click] << 32)
        seen = <double> (totals[i, shown] | <uint64_t> more[i, shown] << 32)
        count[0, i], count[1, i] = clicks, seen
        mark[0, i] = now - published[i] < fresh_ms and seen < fresh_shown
        mark[1, i] = clicks < tail_clicks
    return counts[0], counts[1], marks[0], marks[1]


cdef struct Sums:
    uint64_t key  # 0: nothing is here
    double clicks
    double shown


cdef inline Sums *_slot(Sums *table, uint64_t key, int shift, uint64_t mask) noexcept nogil:
    """Return the slot of a key, or the free one where it belongs."""
    cdef uint64_t at = (key * <uint64_t> 0x9E3779B97F4A7C15) >> shift
    while table[at].key and table[at].key != key:
        at = (at + 1) & mask
    return &table[at]


def prior_rates(
    const double[:] clicks not None, const double[:] shown not None, const uint64_t[:] category not None,
    const uint64_t[:] creator not None, wanted not None, begin not None
):
    cdef Py_ssize_t m = clicks.shape[0], i
    cdef const char[:] asked = wanted.view(np.int8)
    cdef const uint64_t[:] ids
    cdef double begin_clicks, weight, own, all_clicks = 0, all_shown = 0
    cdef uint64_t room = 8
    cdef int shift = 61, level
    cdef Sums *table
    cdef Sums *slot
    cdef Sums **own_slot
    if not shown.shape[0] == category.shape[0] == creator.shape[0] == asked.shape[0] == m:
        raise ValueError("the columns have different lengths")
    begin_clicks, weight = begin[0], sum(begin)
    out = np.zeros(m)
    cdef double[::1] rate = out
    while room < <uint64_t> (2 * m):
        room *= 2
        shift -= 1
    for i in range(m):
        all_clicks += min(clicks[i], shown[i])  # clicks that no list made say nothing about rates
        all_shown += shown[i]
    for i in range(m):
        if asked[i]:
            own = min(clicks[i], shown[i])
            rate[i] = (all_clicks - own + begin_clicks) / (all_shown - shown[i] + weight)
    for level in range(2):
        ids = creator if level else category
        table = <Sums *> calloc(room * sizeof(Sums) + m * sizeof(Sums *), 1)
        if table == NULL:
            raise MemoryError()
        own_slot = <Sums **> (table + room)
        for i in range(m):
            if ids[i]:
                slot = own_slot[i] = _slot(table, ids[i], shift, room - 1)
                slot.key = ids[i]
                slot.clicks += min(clicks[i], shown[i])
                slot.shown += shown[i]
        for i in range(m):
            slot = own_slot[i]
            if asked[i] and slot != NULL:
                own = min(clicks[i], shown[i])
                rate[i] = (slot.clicks - own + weight * rate[i]) / (slot.shown - shown[i] + weight)
        free(table)
    return out
