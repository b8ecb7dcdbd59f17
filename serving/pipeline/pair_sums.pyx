# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Pairs of anchors and their neighbours from neighbour rows, and their sums by neighbour, compiled."""

from libc.math cimport sqrtf
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free

from headrace.models.features.columns cimport rows_like
from headrace.models.features.relative cimport summed
from headrace.models.state.row_access cimport field_at
from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

from headrace.models.state import neighbours
from headrace.models.state.neighbours import ROW

cdef Py_ssize_t SLOTS = neighbours.SLOTS
cdef ptrdiff_t SEQ_TOTAL = field_at(ROW, "seq_total", "<f4"), CO_TOTAL = field_at(ROW, "co_total", "<f4")
cdef ptrdiff_t OTHER = field_at(ROW, "other", "<u8", (SLOTS,))
cdef ptrdiff_t SEQ = field_at(ROW, "seq", "<f4", (SLOTS,)), CO = field_at(ROW, "co", "<f4", (SLOTS,))
cdef ptrdiff_t SEQ_RECENT = field_at(ROW, "seq_recent", "<f4", (SLOTS,))
cdef ptrdiff_t CO_RECENT = field_at(ROW, "co_recent", "<f4", (SLOTS,))

cdef float ONE = 1
#: Totals are at least this, so that shares of nothing are 0.
cdef float TINY = 1e-9

cdef enum:
    SUMS = 7


def pairs_in(rows, const float[::1] fade not None):
    cdef Py_ssize_t i, j, n = 0, count = len(rows)
    cdef RowBytes given = rows_like(rows, ROW, count)
    cdef const char *row
    cdef const float *seq
    cdef const float *co
    cdef const float *seq_recent
    cdef const float *co_recent
    cdef float of_seq, of_co, of_seq_recent, of_co_recent
    if fade.shape[0] != count:
        raise ValueError(f"{count} rows, {fade.shape[0]} factors")
    for i in range(count):
        seq, co = <const float *> (given.start + i * given.step + SEQ), <const float *> (given.start + i * given.step + CO)
        for j in range(SLOTS):
            n += seq[j] > 0 or co[j] > 0
    anchors, others, weights = np.empty(n, np.int64), np.empty(n, np.uint64), np.empty((5, n), np.float32)
    cdef int64_t[::1] anchor = anchors
    cdef uint64_t[::1] key = others
    cdef float[:, ::1] weight = weights
    n = 0
    for i in range(count):
        row = given.start + i * given.step
        seq, co = <const float *> (row + SEQ), <const float *> (row + CO)
        seq_recent, co_recent = <const float *> (row + SEQ_RECENT), <const float *> (row + CO_RECENT)
        of_seq = max((<const float *> (row + SEQ_TOTAL))[0], TINY)
        of_co = fade[i] / sqrtf(ONE + (<const float *> (row + CO_TOTAL))[0])
        of_seq_recent = max(summed(seq_recent, SLOTS), TINY)
        of_co_recent = fade[i] / sqrtf(ONE + summed(co_recent, SLOTS))
        for j in range(SLOTS):
            if seq[j] > 0 or co[j] > 0:
                anchor[n], key[n] = i, (<const uint64_t *> (row + OTHER))[j]
                weight[0, n] = seq[j]
                weight[1, n] = seq[j] / of_seq
                weight[2, n] = co[j] * of_co
                weight[3, n] = seq_recent[j] / of_seq_recent
                weight[4, n] = co_recent[j] * of_co_recent
                n += 1
    return anchors, others, weights, (<const float *> (given.start + SEQ_TOTAL))[0] if count else 0.0


cdef struct Slot:
    uint64_t key
    int32_t place  # from 1 on; 0: free


cdef inline Slot *_slot(Slot *slots, uint64_t mask, int shift, uint64_t key) noexcept nogil:
    """Return the slot of a key, or the free one where it belongs."""
    cdef uint64_t at = (key * <uint64_t> 0x9E3779B97F4A7C15) >> shift
    while slots[at].place and slots[at].key != key:
        at = (at + 1) & mask
    return &slots[at]


def pair_sums(
    const uint64_t[:] keys not None, const int64_t[::1] anchor not None, const uint64_t[::1] other not None,
    const float[:, ::1] weight not None, const float[::1] fade not None
):
    cdef Py_ssize_t i, at, n = keys.shape[0], pairs = other.shape[0], room = 16
    cdef int shift = 60
    cdef Slot *slots
    cdef Slot *slot
    cdef double *total
    if anchor.shape[0] != pairs or weight.shape[0] != 5 or weight.shape[1] != pairs:
        raise ValueError(f"{pairs} neighbours, {anchor.shape[0]} anchors, {weight.shape[1]} weights")
    for i in range(pairs):
        if not 0 <= anchor[i] < fade.shape[0]:
            raise ValueError(f"anchor {anchor[i]} of {fade.shape[0]}")
    while room < 2 * n:
        room *= 2
        shift -= 1
    sums = np.empty((SUMS, n), np.float32)
    cdef float[:, ::1] out = sums
    slots = <Slot *> calloc(room, sizeof(Slot))
    total = <double *> calloc(max(<Py_ssize_t> 1, SUMS * n), sizeof(double))
    try:
        if slots == NULL or total == NULL:
            raise MemoryError()
        for i in range(n):
            slot = _slot(slots, room - 1, shift, keys[i])
            if not slot.place:
                slot.key, slot.place = keys[i], <int32_t> (i + 1)
        for i in range(pairs):
            at = _slot(slots, room - 1, shift, other[i]).place - 1
            if at < 0:
                continue
            if anchor[i] == 0:
                total[at] += weight[0, i]
                total[n + at] += weight[1, i]
                total[5 * n + at] += weight[3, i]
            elif anchor[i] == 1:
                total[2 * n + at] += weight[1, i]
            total[3 * n + at] += weight[1, i] * fade[anchor[i]]
            total[4 * n + at] += weight[2, i]
            total[6 * n + at] += weight[4, i]
        for i in range(SUMS):
            for at in range(n):
                out[i, at] = <float> total[i * n + at]
    finally:
        free(slots)
        free(total)
    return sums
