# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Partitions of keys by Kafka's default partitioner, compiled."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t

import numpy as np


def partitions_of_keys(list keys not None, uint32_t partitions):
    cdef Py_ssize_t i, n = len(keys)
    if partitions < 1:
        raise ValueError(f"{partitions} partitions")
    out = np.empty(n, np.int64)
    cdef int64_t[::1] to = out
    for i in range(n):
        key = keys[i]
        if type(key) is bytes and PyBytes_GET_SIZE(key):
            to[i] = partition_of(<const uint8_t *> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), partitions)
        else:
            to[i] = -1
    return out


def partitions_of_parts(const uint8_t[::1] payload not None, const int64_t[:, :] parts not None, uint32_t partitions):
    cdef Py_ssize_t i, n = parts.shape[1], size = payload.shape[0]
    if partitions < 1 or parts.shape[0] < 2:
        raise ValueError(f"{partitions} partitions, {parts.shape[0]} rows that say where keys are")
    out = np.empty(n, np.int64)
    cdef int64_t[::1] to = out
    for i in range(n):
        if not (0 <= parts[0, i] <= size and -1 <= parts[1, i] <= size - parts[0, i]):
            raise ValueError(f"key {i} is not in the payload")
        to[i] = partition_of(&payload[0] + parts[0, i], parts[1, i], partitions) if parts[1, i] > 0 else -1
    return out
