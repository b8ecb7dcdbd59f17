# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decoded events as columns, each with a verdict, compiled: one pass over the events of a batch."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from headrace.streams.messages.siphash cimport id_of, siphash13
from headrace.streams.topics.murmur2 cimport partition_of

import numpy as np

cdef enum:
    _RIGHT, _WRONG_KEY, _MISPLACED, _MISSING, _TOO_LATE, _FUTURE, _CLOCK

RIGHT, WRONG_KEY, MISPLACED, MISSING, TOO_LATE, FUTURE, CLOCK, ELSEWHERE, AGAIN = range(9)


def event_fields(
    list events not None, list records not None, dict kinds not None, *, int partition, uint32_t partitions,
    int64_t lateness_ms, int64_t future_ms, int64_t newest_ms, key_words, str sent_on_header not None,
):
    cdef uint64_t k0 = key_words[0], k1 = key_words[1]
    cdef Py_ssize_t i, size, n = len(events)
    cdef int64_t at, written, dwell, late
    cdef int dwell_kind = kinds["dwell"]
    cdef const char *user_text
    cdef uint8_t verdict
    cdef bint keyed
    if len(records) != n or partitions < 1:
        raise ValueError(f"{len(records)} records of {n} events, {partitions} partitions")
    user, item, event_id = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint64)
    country = np.empty(n, np.uint64)
    kind, ts, dwell_s = np.empty(n, np.int8), np.empty(n, np.int64), np.empty(n, np.float32)
    offset, timestamp, verdicts = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
    placed, sent_on = np.empty(n, np.bool_), np.zeros(n, np.bool_)
    cdef uint64_t[::1] to_user = user
    cdef uint64_t[::1] to_item = item
    cdef uint64_t[::1] to_id = event_id
    cdef uint64_t[::1] to_country = country
    cdef int8_t[::1] to_kind = kind
    cdef int64_t[::1] to_ts = ts
    cdef float[::1] to_dwell = dwell_s
    cdef int64_t[::1] to_offset = offset
    cdef int64_t[::1] to_timestamp = timestamp
    cdef uint8_t[::1] to_verdict = verdicts
    cdef uint8_t[::1] to_placed = placed.view(np.uint8)
    cdef uint8_t[::1] to_sent_on = sent_on.view(np.uint8)
    for i in range(n):
        event, record = events[i], records[i]
        text = event.user_id
        user_text = PyUnicode_AsUTF8AndSize(text, &size)
        to_user[i] = siphash13(<const uint8_t *> user_text, size, k0, k1) or 1
        to_item[i] = id_of(event.item_id, k0, k1)
        to_id[i] = id_of(event.event_id, k0, k1)
        to_country[i] = id_of(event.context.country, k0, k1)
        to_kind[i] = kinds[event.type]
        at, written = event.ts, record.timestamp
        to_ts[i], to_timestamp[i], to_offset[i] = at, written, record.offset
        length, dwell = event.dwell_ms, 0
        if length is not None:
            dwell = length
        to_dwell[i] = <float> ((dwell + 500) // 1000)
        verdict = _RIGHT
        key = record.key
        keyed = key is not None and PyBytes_GET_SIZE(<bytes?> key) > 0
        to_placed[i] = keyed and <int> partition_of(
            <const uint8_t *> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), partitions
        ) == partition
        late = written - at
        if keyed and (PyBytes_GET_SIZE(key) != size or memcmp(PyBytes_AS_STRING(key), user_text, size)):
            verdict = _WRONG_KEY
        elif to_kind[i] == dwell_kind and length is None:
            verdict = _MISSING
        elif late > lateness_ms:
            verdict = _TOO_LATE
        elif -late > future_ms:
            verdict = _FUTURE
        elif written > newest_ms:
            verdict = _CLOCK
        elif not to_placed[i]:
            verdict = _MISPLACED
        to_verdict[i] = verdict
        for name, _ in record.headers:
            if name == sent_on_header:
                to_sent_on[i] = True
    return user, item, kind, ts, dwell_s, country, offset, event_id, timestamp, verdicts, placed, sent_on
