# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Pairs of anchors and their neighbours from neighbour rows, and their sums by neighbour, compiled."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

cdef enum:
    SUMS = 7


def pairs_in(
    const uint64_t[:, :] other not None, const float[:, :] seq not None, const float[:, :] co not None,
    const float[:, :] seq_recent not None, const float[:, :] co_recent not None, const float[:, ::1] of_row not None
):
    cdef Py_ssize_t i, j, n = 0, rows = seq.shape[0], slots = seq.shape[1]
    if not rows == other.shape[0] == co.shape[0] == seq_recent.shape[0] == co_recent.shape[0]:
        raise ValueError(f"columns of {rows} rows, and of other numbers of rows")
    if not slots == other.shape[1] == co.shape[1] == seq_recent.shape[1] == co_recent.shape[1]:
        raise ValueError(f"columns of {slots} slots, and of other numbers of slots")
    if of_row.shape[0] != 4 or of_row.shape[1] != rows:
        raise ValueError(f"four numbers are needed for each of {rows} rows")
    for i in range(rows):
        for j in range(slots):
            n += seq[i, j] > 0 or co[i, j] > 0
    anchors, others, weights = np.empty(n, np.int64), np.empty(n, np.uint64), np.empty((5, n), np.float32)
    cdef int64_t[::1] anchor = anchors
    cdef uint64_t[::1] key = others
    cdef float[:, ::1] weight = weights
    n = 0
    for i in range(rows):
        for j in range(slots):
            if seq[i, j] > 0 or co[i, j] > 0:
                anchor[n], key[n] = i, other[i, j]
                weight[0, n] = seq[i, j]
                weight[1, n] = seq[i, j] / of_row[0, i]
                weight[2, n] = co[i, j] * of_row[1, i]
                weight[3, n] = seq_recent[i, j] / of_row[2, i]
                weight[4, n] = co_recent[i, j] * of_row[3, i]
                n += 1
    return anchors, others, weights


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
