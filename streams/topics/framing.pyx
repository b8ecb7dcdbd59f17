# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Records of a record batch: framed in bulk, compiled."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import numpy as np

cdef enum:
    BATCH_HEADER = 61  # bytes of a record batch before its records


cdef inline Py_ssize_t _varint(uint64_t number, uint8_t *out) noexcept nogil:
    """Write a number that is zigzag-coded already; return its length."""
    cdef Py_ssize_t n = 0
    while number >= 0x80:
        out[n] = <uint8_t> (number | 0x80)
        number >>= 7
        n += 1
    out[n] = <uint8_t> number
    return n + 1


cdef inline Py_ssize_t _head(Py_ssize_t number, const uint64_t *key, Py_ssize_t size, uint8_t *out) noexcept nogil:
    """Write the part of a record between its length and its value (``key`` NULL: no key); return its size."""
    cdef Py_ssize_t n
    out[0] = out[1] = 0  # attributes; milliseconds after the batch's first record
    n = 2 + _varint(<uint64_t> number << 1, &out[2])
    if key != NULL:
        out[n] = 8 << 1
        memcpy(&out[n + 1], key, 8)
        n += 9
    else:
        out[n] = 1  # no key
        n += 1
    return n + _varint(<uint64_t> size << 1, &out[n])


cdef int _check(Py_ssize_t n_keys, const int64_t[::1] bounds, Py_ssize_t blob_bytes) except -1:
    cdef Py_ssize_t i, n = bounds.shape[0] - 1
    if n < 0 or n and (bounds[0] < 0 or bounds[n] > blob_bytes):
        raise ValueError("bounds lie inside the blob")
    if n_keys >= 0 and n_keys != n:
        raise ValueError(f"{n_keys} keys for {n} values")
    for i in range(n):
        if bounds[i + 1] < bounds[i]:
            raise ValueError("bounds rise")
    return 0


def frame_records(keys, const uint8_t[::1] blob not None, const int64_t[::1] bounds not None, Py_ssize_t max_bytes):
    cdef const uint64_t[::1] key
    cdef bint keyed = keys is not None
    cdef Py_ssize_t i, size, length, used = 0, count = 0, n = bounds.shape[0] - 1
    cdef uint8_t head[32]
    cdef uint8_t prefix[16]
    cdef Py_ssize_t n_head, n_prefix
    if keyed:
        key = keys
    _check(key.shape[0] if keyed else -1, bounds, blob.shape[0])
    frames = []
    room = np.empty(min(max_bytes, blob.shape[0] + 48 * n) + 64, np.uint8)
    cdef uint8_t[::1] out = room
    for i in range(n):
        size = bounds[i + 1] - bounds[i]
        while True:
            n_head = _head(count, &key[i] if keyed else NULL, size, head)
            length = n_head + size + 1  # no headers
            n_prefix = _varint(<uint64_t> length << 1, prefix)
            if not count or BATCH_HEADER + used + n_prefix + length <= max_bytes:
                break
            frames.append((room[:used].tobytes(), count))
            used = count = 0
        if used + n_prefix + length > out.shape[0]:
            room = np.empty(used + n_prefix + length, np.uint8)  # a record larger than a batch may be
            out = room
        memcpy(&out[used], prefix, n_prefix)
        memcpy(&out[used + n_prefix], head, n_head)
        if size:
            memcpy(&out[used + n_prefix + n_head], &blob[bounds[i]], size)
        used += n_prefix + length
        out[used - 1] = 0
        count += 1
    if count:
        frames.append((room[:used].tobytes(), count))
    return frames
