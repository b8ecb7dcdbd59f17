# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The fields of many items in columns, in one pass, compiled."""

from libc.stdint cimport int16_t, int64_t, uint64_t

from collections import namedtuple

import numpy as np

from headrace.streams.messages.siphash cimport id_of

ItemColumns = namedtuple(
    "ItemColumns",
    ["category", "creator", "language", "published", "min_age", "boost", "duration", "ruled", "flagged"],
)


def columns_of(list items not None, uint64_t k0, uint64_t k1):
    cdef Py_ssize_t i, n = len(items)
    cdef list ruled = [], flagged = []
    hashes = np.empty((3, n), np.uint64)
    times = np.empty((2, n), np.int64)
    min_ages, boosts = np.empty(n, np.int16), np.empty(n, np.float32)
    cdef uint64_t[:, ::1] hash_to = hashes
    cdef int64_t[:, ::1] time_to = times
    cdef int16_t[::1] min_age = min_ages
    cdef float[::1] boost = boosts
    for i in range(n):
        item = items[i]
        hash_to[0, i] = id_of(item.category, k0, k1)
        hash_to[1, i] = id_of(item.creator_id, k0, k1)
        hash_to[2, i] = id_of(item.language, k0, k1)
        time_to[0, i] = item.published_ts
        duration = item.duration_ms
        time_to[1, i] = 0 if duration is None else duration
        min_age[i] = item.min_age
        boost[i] = item.boost
        if item.countries or item.blocked_countries:
            ruled.append(i)
        if item.flags:
            flagged.append(i)
    return ItemColumns(*hashes, times[0], min_ages, boosts, times[1], np.array(ruled, np.int64), np.array(flagged, np.int64))
