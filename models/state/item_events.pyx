# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Item events: made of user events and their pairs, put together, split by partition, chosen; compiled."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from headrace.streams.hashing cimport MIX
from headrace.streams.messages.packed_item_events cimport ItemEvent, has_place, place_of, records_of

import numpy as np

from headrace.streams.messages.columns import ITEM_EVENT, KIND

cdef int _DWELL = KIND["dwell"]
cdef int _CLICK = KIND["click"]


def item_events(events, pairs, source_partition: int, int seq_step, int n_pairs, counted):
    """Return the item events of applied events and their pairs (both ways), by ``source_seq``.

    ``counted`` is true for the kinds that items count. Offsets of ``events`` must rise.
    """
    cdef const uint64_t[::1] item = events.item
    cdef const uint64_t[::1] country = events.country
    cdef const int64_t[::1] ts = events.ts
    cdef const int64_t[::1] offset = events.offset
    cdef const int8_t[::1] kind = events.kind
    cdef const uint8_t[::1] age_group = events.age_group
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
                to[made].amount = <uint32_t>dwell_s[i] if kind[i] == _DWELL else 1
                to[made].age_group = age_group[i] if kind[i] == _CLICK and country[i] else 0
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


cdef enum:
    MINUTE_MS = 60_000


cdef inline uint64_t _mixed(const ItemEvent *e) noexcept nogil:
    cdef uint64_t h = (e.item * MIX) ^ e.other
    h = ((h ^ (h >> 29)) * MIX) ^ e.country
    h = ((h ^ (h >> 31)) * MIX) ^ (<uint64_t>(e.ts // MINUTE_MS) << 24 | <uint64_t>e.source_partition << 8 | e.kind)
    h ^= <uint64_t>e.age_group << 52
    return (h ^ (h >> 30)) * MIX


cdef inline bint _alike(const ItemEvent *a, const ItemEvent *b) noexcept nogil:
    return (
        a.item == b.item and a.other == b.other and a.kind == b.kind and a.country == b.country
        and a.source_partition == b.source_partition and a.ts // MINUTE_MS == b.ts // MINUTE_MS
        and a.age_group == b.age_group
    )


cdef inline void _put_together(ItemEvent *to, const ItemEvent *e) noexcept nogil:
    """Add an earlier event ``e`` to a later one: the later one's number stays."""
    cdef int64_t oldest = min(to.ts - to.span, e.ts - e.span)
    to.ts = max(to.ts, e.ts)
    to.span = <uint16_t>(to.ts - oldest)
    to.amount += e.amount
    to.seq_weight += e.seq_weight


cdef int64_t *_first = <int64_t *>calloc(1 << 16, sizeof(int64_t))  # by source: its first number + 1; 0: none


cdef void _set_reach(ItemEvent *e, Py_ssize_t n, const ItemEvent *before, Py_ssize_t n_before) noexcept nogil:
    """Set the reach of events ``e`` that were put together from ``before``."""
    cdef Py_ssize_t i
    for i in range(n_before):
        if not before[i].alone and not _first[before[i].source_partition]:
            _first[before[i].source_partition] = before[i].source_seq + 1
    for i in range(n):
        if not e[i].alone:
            e[i].reach = <uint32_t>min(e[i].source_seq - _first[e[i].source_partition] + 2, <int64_t>0xFFFFFFFF)
    for i in range(n_before):
        _first[before[i].source_partition] = 0


def combine_item_events(events):
    """Return fewer item events that say the same; numbers of a source must rise in ``events``.

    Those of the same source, item, other item, country, age group, kind and minute become one: the amounts are added, and
    it has the number of the last of them. Numbers of a source rise in the result, too. Events that are
    ``alone`` stay as they are.
    """
    if _first == NULL:
        raise MemoryError
    cdef const unsigned char[::1] raw = records_of(events)
    cdef Py_ssize_t i, n = len(events), slots = 16, made
    cdef size_t at
    if not n:
        return events
    while slots < 2 * n:
        slots *= 2
    out = np.empty(n, ITEM_EVENT)
    cdef unsigned char[::1] out_raw = out.view(np.uint8)
    cdef const ItemEvent *e = <const ItemEvent *>&raw[0]
    cdef ItemEvent *to = <ItemEvent *>&out_raw[0]
    cdef int32_t *table = <int32_t *>calloc(slots, sizeof(int32_t))  # place in ``to`` + 1
    if table == NULL:
        raise MemoryError
    made = n  # filled from the end: the order is that of the last event of each
    with nogil:
        for i in range(n - 1, -1, -1):
            if e[i].alone:
                made -= 1
                to[made] = e[i]
                continue
            at = <size_t>_mixed(&e[i]) & (slots - 1)
            while table[at] and not _alike(&to[table[at] - 1], &e[i]):
                at = (at + 1) & (slots - 1)
            if table[at]:
                _put_together(&to[table[at] - 1], &e[i])
            else:
                made -= 1
                to[made] = e[i]
                table[at] = <int32_t>(made + 1)
        _set_reach(to + made, n - made, e, n)
    free(table)
    return out[made:]


cdef inline uint64_t _country_key(uint64_t item, uint64_t country) noexcept nogil:
    """Return ``items.country_key`` of one item."""
    cdef uint64_t z = item + country * <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


def country_keys(const uint64_t[:] items not None, const uint64_t[:] countries not None):
    cdef Py_ssize_t i, n = items.shape[0], step = countries.shape[0] != 1
    if step and countries.shape[0] != n:
        raise ValueError(f"{n} items, {countries.shape[0]} countries")
    out = np.empty(n, np.uint64)
    cdef uint64_t[::1] keys = out
    for i in range(n):
        keys[i] = _country_key(items[i], countries[i * step])
    return out


def choose_item_events(events, wanted, kinds, int by):
    """Return the positions of wanted events of some kinds, and the keys of their rows."""
    cdef const unsigned char[::1] raw = records_of(events)
    cdef const uint8_t[::1] want
    cdef Py_ssize_t i, n = len(events), found = 0
    cdef const ItemEvent *e = <const ItemEvent *>&raw[0] if n else NULL
    cdef uint8_t of_kind[256]
    positions, keys = np.empty(n, np.int64), np.empty(n, np.uint64)
    cdef int64_t[::1] at = positions
    cdef uint64_t[::1] key = keys
    want = np.ones(n, np.uint8) if wanted is None else wanted.view(np.uint8)
    if want.shape[0] != n:
        raise ValueError(f"{want.shape[0]} wanted, {n} events")
    memset(of_kind, 0, 256)
    for i in range(len(kinds)):
        of_kind[i] = bool(kinds[i])
    with nogil:
        for i in range(n):
            if want[i] and of_kind[e[i].kind] and has_place(&e[i], by):
                at[found] = i
                key[found] = _country_key(e[i].item, place_of(&e[i], by)) if by else e[i].item
                found += 1
    return positions[:found], keys[:found]


def new_item_events(events, dict marks not None, new_mark):
    """Return which events were not counted before, and move the marks of their sources."""
    cdef const unsigned char[::1] raw = records_of(events)
    cdef Py_ssize_t i, n = len(events)
    cdef const ItemEvent *e = <const ItemEvent *>&raw[0] if n else NULL
    cdef int64_t mark = 0, first = 0, begin
    cdef int source = -1
    fresh = np.zeros(n, np.bool_)
    cdef uint8_t[::1] new = fresh.view(np.uint8)
    held = None
    for i in range(n):
        if e[i].source_partition != source:
            if held is not None:
                held.mark, held.first = mark, first
            source = e[i].source_partition
            held = marks.get(source)
            if held is None:
                held = marks[source] = new_mark()
            mark, first = held.mark, held.first
        begin = e[i].source_seq - e[i].reach + 1 if e[i].reach else -1
        if begin >= 0 and begin <= mark and begin != first:
            continue
        if begin >= 0:
            first = begin
        if e[i].source_seq > mark:
            new[i], mark = 1, e[i].source_seq
    if held is not None:
        held.mark, held.first = mark, first
    return fresh
