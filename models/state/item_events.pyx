# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Item events: made of user events and their pairs, and split by partition; compiled."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint64_t

import numpy as np

from headrace.streams.messages.columns import ITEM_EVENT, KIND

if sizeof(ItemEvent) != ITEM_EVENT.itemsize or tuple(ITEM_EVENT.names) != (
    "item", "other", "country", "ts", "source_seq", "seq_weight", "co_weight", "amount", "source_partition",
    "kind", "pad",
):
    raise ImportError(
        "headrace.models.state.item_events was compiled with another ITEM_EVENT than that of"
        " headrace.streams.messages.columns: build it again"
    )

cdef int _DWELL = KIND["dwell"]


cdef const unsigned char[::1] records_of(events):
    """Return the bytes of an ``ITEM_EVENT`` array."""
    if events.dtype != ITEM_EVENT:
        raise ValueError("ITEM_EVENT records are expected")
    return np.ascontiguousarray(events).view(np.uint8)


def item_events(events, pairs, source_partition: int, int seq_step, int n_pairs, counted):
    """Return the item events of applied events and their pairs (both ways), by ``source_seq``.

    ``counted`` is true for the kinds that items count. Offsets of ``events`` must rise.
    """
    cdef const uint64_t[::1] item = events.item
    cdef const uint64_t[::1] country = events.country
    cdef const int64_t[::1] ts = events.ts
    cdef const int64_t[::1] offset = events.offset
    cdef const int8_t[::1] kind = events.kind
    cdef const float[::1] dwell_s = events.dwell_s
    cdef const unsigned char[::1] pairs_raw = records_of(pairs)
    cdef Py_ssize_t i, first, k, n = item.shape[0], m = len(pairs), j = 0, made = 0
    cdef uint16_t partition = source_partition
    cdef uint8_t keep[16]
    cdef int64_t end
    if len(counted) != len(KIND):
        raise ValueError("whether it counts, for every kind of event")
    for i in range(len(counted)):
        keep[i] = counted[i]
    out = np.zeros(n + 2 * m, ITEM_EVENT)
    if not n:
        return out
    cdef unsigned char[::1] out_raw = out.view(np.uint8)
    cdef ItemEvent *to = <ItemEvent *>&out_raw[0]
    cdef const ItemEvent *pair = <const ItemEvent *>&pairs_raw[0] if m else NULL
    with nogil:
        for i in range(n):
            if keep[kind[i]]:
                to[made].item, to[made].country, to[made].ts = item[i], country[i], ts[i]
                to[made].kind = kind[i]
                to[made].amount = dwell_s[i] if kind[i] == _DWELL else 1
                to[made].source_seq = offset[i] * seq_step
                to[made].source_partition = partition
                made += 1
            end = (offset[i] + 1) * seq_step
            first = j
            while j < m and pair[j].source_seq < end:
                to[made] = pair[j]
                to[made].source_partition = partition
                made += 1
                j += 1
            for k in range(first, j):
                to[made] = pair[k]
                to[made].item, to[made].other = pair[k].other, pair[k].item
                to[made].seq_weight = 0
                to[made].source_seq += n_pairs
                to[made].source_partition = partition
                made += 1
    return out[:made]


def split_item_events(list arrays not None, int count):
    """Return all item events by the partition of their item, and how many each has, int64 ``(count,)``.

    The order within a partition is kept.
    """
    cdef const unsigned char[::1] raw
    cdef const ItemEvent *e
    cdef Py_ssize_t i, n
    cdef int p
    if count < 1:
        raise ValueError(f"{count} partitions")
    sizes, places = np.zeros(count, np.int64), np.zeros(count, np.int64)
    cdef int64_t[::1] size = sizes
    cdef int64_t[::1] place = places
    for events in arrays:
        n = len(events)
        if n:
            raw = records_of(events)
            e = <const ItemEvent *>&raw[0]
            with nogil:
                for i in range(n):
                    size[e[i].item % <uint64_t>count] += 1
    places[1:] = np.cumsum(sizes[: count - 1])
    out = np.empty(int(sizes.sum()), ITEM_EVENT)
    if not len(out):
        return out, sizes
    cdef unsigned char[::1] out_raw = out.view(np.uint8)
    cdef ItemEvent *to = <ItemEvent *>&out_raw[0]
    for events in arrays:
        n = len(events)
        if n:
            raw = records_of(events)
            e = <const ItemEvent *>&raw[0]
            with nogil:
                for i in range(n):
                    p = <int>(e[i].item % <uint64_t>count)
                    to[place[p]] = e[i]
                    place[p] += 1
    return out, sizes
