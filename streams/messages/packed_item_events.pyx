# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The compact form of item events in the topic `item-events`; compiled. The format is described in the .pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from headrace.streams.messages.ages import N_GROUPS as _N_GROUPS
from headrace.streams.messages.columns import ITEM_EVENT, KINDS, MAX_AMOUNT as _MAX_AMOUNT, MAX_TS as _MAX_TS, PACKED

if sizeof(ItemEvent) != ITEM_EVENT.itemsize or tuple(ITEM_EVENT.names) != (
    "item", "other", "country", "ts", "source_seq", "amount", "seq_weight", "reach", "span",
    "source_partition", "kind", "alone", "age_group", "pad",
):
    raise ImportError(
        "headrace.streams.messages.packed_item_events was compiled with another ITEM_EVENT than that of"
        " headrace.streams.messages.columns: build it again"
    )

cdef enum:
    VERSION = 2  # 1: events of 64 bytes each, without a version
    HEADER = 3  # version, number of events
    LEAST = 4  # bytes of an event
    MOST = 60
    SLACK = 8  # fields are copied 8 bytes at a time, whatever their size
    # The head: kind (4 bits), size of ts (2 bits: 1, 2, 4, 8 bytes), size of source_seq (2 bits), and flags.
    TS_AT = 4
    SEQ_AT = 6
    SAME_ITEM = 1 << 8
    NEW_OTHER = 1 << 9
    SAME_OTHER = 1 << 10
    WEIGHT = 1 << 11
    KNOWN_COUNTRY = 1 << 12
    NEW_COUNTRY = 1 << 13
    MORE = 1 << 14
    AGE = 1 << 15
    # The byte ``more``: size of amount (2 bits: it is 1, or 1, 2, 4 bytes), and flags.
    REACH = 1 << 2
    SPAN = 1 << 3
    SOURCE = 1 << 4
    ALONE = 1 << 5
    UNUSED_MORE = 3 << 6
    COUNTRIES = 255  # of a record that get a number
    SLOTS = 1024

MOST_BYTES, HEADER_BYTES = MOST, HEADER

cdef int N_KINDS = len(KINDS)
cdef int N_GROUPS = _N_GROUPS
cdef int64_t MAX_TS = _MAX_TS
cdef uint32_t MAX_AMOUNT = _MAX_AMOUNT
cdef float MAX_WEIGHT = _MAX_AMOUNT


cdef struct Before:  # what an event is compared with
    uint64_t item
    uint64_t other  # of the last event that had one
    uint64_t country
    uint64_t ts
    uint64_t seq
    uint32_t reach
    uint16_t source
    int countries  # the first of them is 0: none
    uint64_t country_of[256]  # by number; at most COUNTRIES are in use


cdef const unsigned char[::1] records_of(events):
    """Return the bytes of an ``ITEM_EVENT`` array."""
    if events.dtype != ITEM_EVENT:
        raise ValueError("ITEM_EVENT records are expected")
    return np.ascontiguousarray(events).view(np.uint8)


cdef inline uint64_t _zigzag(uint64_t distance) noexcept nogil:
    return (distance << 1) ^ (0 - (distance >> 63))


cdef inline uint64_t _distance(uint64_t zigzag) noexcept nogil:
    return (zigzag >> 1) ^ (0 - (zigzag & 1))


cdef inline uint32_t _size_code(uint64_t number) noexcept nogil:
    """Return 0 to 3 for a number that fits in 1, 2, 4 or 8 bytes."""
    return <uint32_t>(number > 0xFF) + <uint32_t>(number > 0xFFFF) + <uint32_t>(number >> 32 != 0)


cdef inline uint32_t _reach(const Before *b, uint64_t seq) noexcept nogil:
    """Return the reach of an event that reaches back to the same number as the one before."""
    return <uint32_t>(b.reach + (seq - b.seq)) if b.reach else 0


# --- packing


cdef inline int _country(Before *b, uint8_t *slots, uint64_t country) noexcept nogil:
    """Return the number of a country in the record; -1 for a new one, which gets a number if one is left."""
    cdef uint32_t at = <uint32_t>((country * <uint64_t>0x9E3779B97F4A7C15) >> 54)  # below SLOTS
    while slots[at]:
        if b.country_of[slots[at] - 1] == country:
            return slots[at] - 1
        at = (at + 1) & (SLOTS - 1)
    if b.countries < COUNTRIES:
        b.country_of[b.countries] = country
        b.countries += 1
        slots[at] = <uint8_t>b.countries
    return -1


cdef inline uint8_t *_pack_country(
    uint8_t *at, uint64_t country, Before *b, uint8_t *slots, uint32_t *head
) noexcept nogil:
    """Write the country if it is not that of the event before; return where it ends."""
    cdef int number = _country(b, slots, country)
    cdef uint32_t known = country != b.country
    if number < 0 and known:
        head[0] |= NEW_COUNTRY
        memcpy(at, &country, 8)
        return at + 8
    at[0] = <uint8_t>number
    head[0] |= known * KNOWN_COUNTRY
    return at + known


cdef inline uint8_t *_pack_more(uint8_t *to, const ItemEvent *e, const Before *b, uint32_t reach) noexcept nogil:
    """Write the fields that are rarely there; return where they end: at ``to`` when there is none."""
    cdef uint32_t more = 0
    cdef uint8_t *at = to + 1
    if e.amount != 1:
        more = 1 + _size_code(e.amount)
        memcpy(at, &e.amount, 4)
        at += 1 << (more - 1)
    if e.reach != reach:
        more |= REACH
        memcpy(at, &e.reach, 4)
        at += 4
    if e.span:
        more |= SPAN
        memcpy(at, &e.span, 2)
        at += 2
    if e.source_partition != b.source:
        more |= SOURCE
        memcpy(at, &e.source_partition, 2)
        at += 2
    if e.alone:
        more |= ALONE
    to[0] = <uint8_t>more
    return at if more else to


cdef inline uint8_t *_pack(uint8_t *to, const ItemEvent *e, Before *b, uint8_t *slots) noexcept nogil:
    """Write one event; return where it ends. Fields are written always, and overwritten when not wanted."""
    cdef uint64_t ts = _zigzag(<uint64_t>e.ts - b.ts), seq = _zigzag(<uint64_t>e.source_seq - b.seq)
    cdef uint32_t ts_code = _size_code(ts), seq_code = _size_code(seq), reach = _reach(b, e.source_seq), weight
    cdef uint32_t same_item = e.item == b.item, other = e.other != 0, same_other = other & (e.other == b.other)
    cdef uint32_t head = e.kind | ts_code << TS_AT | seq_code << SEQ_AT
    cdef uint8_t *at = to + 2
    cdef uint8_t *end
    memcpy(&weight, &e.seq_weight, 4)
    head |= same_item * SAME_ITEM | same_other * SAME_OTHER | (other ^ same_other) * NEW_OTHER
    head |= <uint32_t>(weight != 0) * WEIGHT  # also -0.0
    memcpy(at, &ts, 8)
    at += 1 << ts_code
    memcpy(at, &seq, 8)
    at += 1 << seq_code
    memcpy(at, &e.item, 8)
    at += 8 - 8 * same_item
    memcpy(at, &e.other, 8)
    at += 8 * (other ^ same_other)
    memcpy(at, &weight, 4)
    at += 4 * <int>(weight != 0)
    at = _pack_country(at, e.country, b, slots, &head)
    head |= <uint32_t>(e.age_group != 0) * AGE
    at[0] = e.age_group
    at += e.age_group != 0
    end = _pack_more(at, e, b, reach)
    head |= <uint32_t>(end != at) * MORE
    memcpy(to, &head, 2)
    b.item, b.country, b.ts, b.seq = e.item, e.country, e.ts, e.source_seq
    b.other = e.other if other else b.other
    b.reach, b.source = e.reach, e.source_partition
    return end


def pack_item_events(events, Py_ssize_t per_record=PACKED):
    cdef const unsigned char[::1] raw = records_of(events)
    cdef Py_ssize_t i = 0, n = len(events), end, record = 0, records
    cdef const ItemEvent *e = <const ItemEvent *>&raw[0] if n else NULL
    cdef uint8_t slots[SLOTS]
    cdef Before b
    if not 1 <= per_record <= 0xFFFF:
        raise ValueError(f"{per_record} events in a record")
    for i in range(n):
        if e[i].kind >= N_KINDS:
            raise ValueError(f"item event of kind {e[i].kind}")
    records = (n + per_record - 1) // per_record
    bounds = np.zeros(records + 1, np.int64)
    cdef int64_t[::1] bound = bounds
    blob = np.empty(n * MOST + records * HEADER + SLACK, np.uint8)
    cdef uint8_t[::1] out = blob
    cdef uint8_t *to = &out[0]
    i = 0
    with nogil:
        while i < n:
            end = min(i + per_record, n)
            to[0], to[1], to[2] = VERSION, <uint8_t>(end - i), <uint8_t>((end - i) >> 8)
            to += HEADER
            memset(&b, 0, sizeof(Before))
            memset(slots, 0, SLOTS)
            b.countries = slots[0] = 1  # country 0
            while i < end:
                to = _pack(to, &e[i], &b, slots)
                i += 1
            record += 1
            bound[record] = to - &out[0]
    return blob[: bounds[records]], bounds


# --- unpacking


cdef inline uint64_t _number(const uint8_t *at, uint32_t code) noexcept nogil:
    """Return the number at ``at``, of 1, 2, 4 or 8 bytes."""
    cdef uint64_t number
    memcpy(&number, at, 8)
    return number & (~<uint64_t>0 >> (64 - (8 << code)))


cdef inline Py_ssize_t _size(uint32_t head) noexcept nogil:
    """Return the bytes of an event with this head, those after ``more`` not counted."""
    return (
        2 + (1 << (head >> TS_AT & 3)) + (1 << (head >> SEQ_AT & 3)) + (0 if head & SAME_ITEM else 8)
        + (8 if head & NEW_OTHER else 0) + (4 if head & WEIGHT else 0) + (1 if head & KNOWN_COUNTRY else 0)
        + (8 if head & NEW_COUNTRY else 0) + (1 if head & AGE else 0) + (1 if head & MORE else 0)
    )


cdef inline const uint8_t *_unpack_country(const uint8_t *at, uint32_t head, Before *b) noexcept nogil:
    """Read the country into ``b``; return where it ends, NULL when there is none of this number."""
    cdef uint32_t known = head // KNOWN_COUNTRY & 1
    cdef uint64_t old = b.country_of[at[0]]
    if head & NEW_COUNTRY:
        memcpy(&b.country, at, 8)
        if b.countries < COUNTRIES:
            b.country_of[b.countries] = b.country
            b.countries += 1
        return at + 8
    if known and at[0] >= b.countries:
        return NULL
    b.country = old if known else b.country
    return at + known


cdef inline const uint8_t *_unpack_more(const uint8_t *at, const uint8_t *end, ItemEvent *e) noexcept nogil:
    """Read ``more``, which is in the record, and its fields; return where they end, NULL when they are wrong."""
    cdef uint32_t more = at[0], amount = more & 3
    cdef Py_ssize_t left = end - at - 1
    at += 1
    left -= (1 << amount >> 1) + (4 if more & REACH else 0) + (2 if more & SPAN else 0) + (2 if more & SOURCE else 0)
    if left < 0 or more & UNUSED_MORE:
        return NULL
    if amount:
        e.amount = <uint32_t>_number(at, amount - 1)
        at += 1 << (amount - 1)
    if more & REACH:
        memcpy(&e.reach, at, 4)
        at += 4
    if more & SPAN:
        memcpy(&e.span, at, 2)
        at += 2
    if more & SOURCE:
        memcpy(&e.source_partition, at, 2)
        at += 2
    e.alone = 1 if more & ALONE else 0
    return at


cdef inline const uint8_t *_unpack(const uint8_t *at, const uint8_t *end, ItemEvent *e, Before *b) noexcept nogil:
    """Read one event; return where it ends, NULL when it is malformed."""
    cdef uint32_t head = 0, ts_code, seq_code, weight
    cdef uint64_t seq, item, other
    if end - at < LEAST:
        return NULL
    memcpy(&head, at, 2)
    if end - at < MOST and end - at < _size(head):
        return NULL
    if head & NEW_OTHER and head & SAME_OTHER or head & NEW_COUNTRY and head & KNOWN_COUNTRY:
        return NULL
    memset(e, 0, sizeof(ItemEvent))
    ts_code, seq_code = head >> TS_AT & 3, head >> SEQ_AT & 3
    at += 2
    b.ts += _distance(_number(at, ts_code))
    at += 1 << ts_code
    seq = b.seq + _distance(_number(at, seq_code))
    at += 1 << seq_code
    e.kind, e.ts, e.source_seq, e.amount = head & 15, b.ts, seq, 1
    e.reach, e.source_partition = _reach(b, seq), b.source
    b.seq = seq
    memcpy(&item, at, 8)
    at += 0 if head & SAME_ITEM else 8
    b.item = b.item if head & SAME_ITEM else item
    memcpy(&other, at, 8)
    at += 8 if head & NEW_OTHER else 0
    b.other = other if head & NEW_OTHER else b.other
    e.other = b.other if head & (NEW_OTHER | SAME_OTHER) else 0
    memcpy(&weight, at, 4)
    at += 4 if head & WEIGHT else 0
    weight = weight if head & WEIGHT else 0
    memcpy(&e.seq_weight, &weight, 4)
    at = _unpack_country(at, head, b)
    e.item, e.country = b.item, b.country
    if head & AGE and at != NULL:
        e.age_group = at[0]
        at += 1
    if head & MORE and at != NULL:
        at = _unpack_more(at, end, e)
    b.reach, b.source = e.reach, e.source_partition
    return at


cdef inline bint _is_sound(const ItemEvent *e) noexcept nogil:
    """Return whether all fields have possible values."""
    return (
        e.kind < N_KINDS and e.item != 0 and e.age_group < N_GROUPS and e.span <= e.ts <= MAX_TS and e.source_seq >= 0
        and e.amount <= MAX_AMOUNT and e.seq_weight >= 0 and e.seq_weight <= MAX_WEIGHT  # false for NaN
    )


cdef Py_ssize_t _count(const uint8_t *value, Py_ssize_t size) noexcept nogil:
    """Return the number of events in a record by its first bytes; 0 when it cannot be one."""
    cdef Py_ssize_t count
    if size < HEADER or value[0] != VERSION:
        return 0
    count = value[1] | value[2] << 8
    return count if count * LEAST <= size - HEADER else 0


cdef Py_ssize_t _unpack_record(const uint8_t *value, Py_ssize_t size, ItemEvent *to) noexcept nogil:
    """Read a record; return its number of events, 0 when it is bad. ``SLACK`` bytes after it are readable."""
    cdef const uint8_t *at = value + HEADER
    cdef const uint8_t *end = value + size
    cdef Py_ssize_t i, count = _count(value, size)
    cdef Before b
    memset(&b, 0, sizeof(Before))
    b.countries = 1
    for i in range(count):
        at = _unpack(at, end, &to[i], &b)
        if at == NULL or not _is_sound(&to[i]):
            return 0
    return count if at == end else 0


def unpack_item_events(values, offsets):
    cdef Py_ssize_t i, k, size, n = len(values), room = 0, largest = 0, made = 0, count
    cdef const int64_t[::1] offset = np.asarray(offsets, np.int64)
    values = tuple(values)
    if offset.shape[0] != n:
        raise ValueError(f"{offset.shape[0]} offsets for {n} records")
    whole = np.zeros(n, np.bool_)
    cdef uint8_t[::1] sound = whole.view(np.uint8)
    for value in values:
        if value:
            size = PyBytes_GET_SIZE(<bytes?>value)
            room += _count(<const uint8_t *>PyBytes_AS_STRING(value), size)
            largest = max(largest, size)
    events, places = np.empty(room, ITEM_EVENT), np.empty(room, np.int64)
    if not room:
        return events, places, whole
    cdef unsigned char[::1] raw = events.view(np.uint8)
    cdef int64_t[::1] place = places
    cdef ItemEvent *to = <ItemEvent *>&raw[0]
    cdef uint8_t *copy = <uint8_t *>malloc(largest + SLACK)
    if copy == NULL:
        raise MemoryError
    for i in range(n):
        value = values[i]
        if not value:
            continue
        size = PyBytes_GET_SIZE(value)
        memcpy(copy, PyBytes_AS_STRING(value), size)  # so that bytes after it may be read
        memset(copy + size, 0, SLACK)
        count = _unpack_record(copy, size, to + made)
        sound[i] = count > 0
        for k in range(made, made + count):
            place[k] = offset[i]
        made += count
    free(copy)
    return events[:made], places[:made], whole
