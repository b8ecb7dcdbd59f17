# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decoded events as columns, each with a verdict, compiled: one pass over the events of a batch."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from headrace.streams.messages.siphash cimport id_of, siphash13
from headrace.streams.topics.murmur2 cimport partition_of

import numpy as np

from headrace.streams.messages.ages import age_group as _age_group

cdef enum:
    OLDEST = 150  # years, as in schemas.py

cdef enum:
    _RIGHT, _WRONG_KEY, _MISPLACED, _MISSING, _TOO_LATE, _FUTURE, _CLOCK

RIGHT, WRONG_KEY, MISPLACED, MISSING, TOO_LATE, FUTURE, CLOCK, ELSEWHERE, AGAIN = range(9)


cdef uint8_t _group_of[OLDEST + 2]  # by age + 1
for _age in range(-1, OLDEST + 1):
    _group_of[_age + 1] = _age_group(_age)


cdef class Columns:
    """Arrays ``(n,)`` that are filled event by event, and what decides the verdicts."""

    def __init__(
        self, Py_ssize_t n, dict kinds not None, *, int partition, uint32_t partitions, int64_t lateness_ms,
        int64_t future_ms, int64_t newest_ms, key_words,
    ):
        if partitions < 1:
            raise ValueError(f"{partitions} partitions")
        self.k0, self.k1 = key_words
        self.partition, self.partitions, self.dwell_kind = partition, partitions, kinds["dwell"]
        self.lateness_ms, self.future_ms, self.newest_ms = lateness_ms, future_ms, newest_ms
        user, item, country, event_id = (np.empty(n, np.uint64) for _ in range(4))
        kind, ts, dwell_s = np.empty(n, np.int8), np.empty(n, np.int64), np.empty(n, np.float32)
        offset, timestamp, verdict = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
        placed, sent_on, of_creator = np.empty(n, np.bool_), np.zeros(n, np.bool_), np.empty(n, np.bool_)
        self.user, self.item, self.country, self.event_id = user, item, country, event_id
        self.kind, self.ts, self.dwell_s, self.offset, self.timestamp = kind, ts, dwell_s, offset, timestamp
        self.verdict, self.placed, self.sent_on = verdict, placed.view(np.uint8), sent_on.view(np.uint8)
        self.of_creator = of_creator.view(np.uint8)
        groups = np.empty(n, np.uint8)
        self.age_group = groups
        self.arrays = (
            user, item, kind, ts, dwell_s, country, offset, of_creator, groups, event_id, timestamp, verdict,
            placed, sent_on,
        )

    cdef void put(
        self, Py_ssize_t i, const Told *event, const uint8_t *key, Py_ssize_t key_size, int64_t offset,
        int64_t written,
    ) noexcept nogil:
        cdef bint keyed = key_size > 0
        cdef int64_t late = written - event.ts
        cdef uint8_t verdict = _RIGHT
        self.user[i] = siphash13(event.user, event.user_size, self.k0, self.k1) or 1
        self.item[i], self.event_id[i], self.country[i] = event.item, event.event_id, event.country
        self.kind[i], self.ts[i], self.of_creator[i] = event.kind, event.ts, event.of_creator
        self.offset[i], self.timestamp[i] = offset, written
        self.age_group[i] = _group_of[event.age + 1]
        self.dwell_s[i] = <float> ((event.dwell_ms + 500) // 1000) if event.dwell_ms > 0 else 0
        self.placed[i] = keyed and <int> partition_of(key, key_size, self.partitions) == self.partition
        if keyed and (key_size != event.user_size or memcmp(key, event.user, key_size)):
            verdict = _WRONG_KEY
        elif event.kind == self.dwell_kind and event.dwell_ms < 0:
            verdict = _MISSING
        elif late > self.lateness_ms:
            verdict = _TOO_LATE
        elif -late > self.future_ms:
            verdict = _FUTURE
        elif written > self.newest_ms:
            verdict = _CLOCK
        elif not self.placed[i]:
            verdict = _MISPLACED
        self.verdict[i] = verdict


def event_fields(
    list events not None, list records not None, dict kinds not None, *, str sent_on_header not None, **rules
):
    cdef Py_ssize_t i, n = len(events)
    cdef Told told
    cdef const uint8_t *key_text
    cdef Py_ssize_t key_size
    if len(records) != n:
        raise ValueError(f"{len(records)} records of {n} events")
    cdef Columns to = Columns(n, kinds, **rules)
    for i in range(n):
        event, record = events[i], records[i]
        text = event.user_id
        told.user = <const uint8_t *> PyUnicode_AsUTF8AndSize(text, &told.user_size)
        told.item = id_of(event.item_id, to.k0, to.k1)
        told.event_id = id_of(event.event_id, to.k0, to.k1)
        told.country = id_of(event.context.country, to.k0, to.k1)
        told.kind, told.ts = kinds[event.type], event.ts
        length = event.dwell_ms
        told.dwell_ms = -1 if length is None else length
        told.of_creator = event.scope == "creator"
        years = event.context.age
        told.age = -1 if years is None else years
        if not -1 <= told.age <= OLDEST:
            raise ValueError(f"an age of {told.age} years")
        key = record.key
        key_text, key_size = NULL, 0
        if key is not None:
            key_text, key_size = <const uint8_t *> PyBytes_AS_STRING(<bytes?> key), PyBytes_GET_SIZE(key)
        to.put(i, &told, key_text, key_size, record.offset, record.timestamp)
        for name, _ in record.headers:
            if name == sent_on_header:
                to.sent_on[i] = True
    return to.arrays
