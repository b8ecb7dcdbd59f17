# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Events as columns, straight from the bytes of their JSON, compiled.

A record is taken only when msgspec's decoder of ``schemas.Event`` certainly takes it, with the same values.
``found`` says which records those are. The others (escapes, numbers with a point, wrong values, ...) are for
that decoder.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from headrace.streams.messages.event_fields cimport Columns, Told
from headrace.streams.messages.json_text cimport (
    DEEPEST, Text, after_space, begins, read_text, read_whole, skip_plain,
)
from headrace.streams.messages.siphash cimport siphash13

import numpy as np

cdef enum:
    N_TYPES = 7
    # as in schemas.py: characters of an id, of a label; a day, ms; positions
    ID = 64
    LABEL = 128
    DAY = 86_400_000
    POSITION = 10_000
    OLDEST = 150

cdef int64_t MIN_TS = 100_000_000_000
cdef int64_t MAX_TS = 4_102_444_800_000

cdef enum:
    # fields of an event, bits; those it must have; fields of a context
    EVENT_ID = 1
    TYPE = 2
    USER = 4
    ITEM = 8
    TS = 16
    REQUIRED = 31
    DWELL = 32
    REQUEST = 64
    PLACE = 128
    SURFACE = 256
    CONTEXT = 512
    SCOPE = 1024
    N_FIELDS = 11
    COUNTRY = 1
    DEVICE = 2
    TIME = 4
    AGE = 8
    N_CONTEXT = 4

#: In this order: their codes.
TYPES = ("click", "skip", "dwell", "like", "save", "follow", "hide")
cdef const char *TYPE_TEXT[N_TYPES]
TYPE_TEXT[:] = [b"click", b"skip", b"dwell", b"like", b"save", b"follow", b"hide"]
cdef int TYPE_SIZE[N_TYPES]
TYPE_SIZE[:] = [5, 4, 5, 4, 4, 6, 4]


cdef struct Field:
    const char *text  # its name, in quotes, and a colon
    int size
    int bit


cdef Field OF_EVENT[N_FIELDS]
OF_EVENT[:] = [
    Field(b'"event_id":', 11, EVENT_ID), Field(b'"type":', 7, TYPE), Field(b'"user_id":', 10, USER),
    Field(b'"item_id":', 10, ITEM), Field(b'"ts":', 5, TS), Field(b'"dwell_ms":', 11, DWELL),
    Field(b'"request_id":', 13, REQUEST), Field(b'"position":', 11, PLACE), Field(b'"surface":', 10, SURFACE),
    Field(b'"context":', 10, CONTEXT), Field(b'"scope":', 8, SCOPE),
]
cdef Field OF_CONTEXT[N_CONTEXT]
OF_CONTEXT[:] = [
    Field(b'"country":', 10, COUNTRY), Field(b'"device":', 9, DEVICE), Field(b'"ts":', 5, TIME),
    Field(b'"age":', 6, AGE),
]


cdef struct Scan:
    Text event_id, user, item, country, device, request
    int type
    int64_t ts, dwell_ms, position, age
    bint of_creator


cdef inline bint _is(const Text *name, const char *word, Py_ssize_t size) noexcept nogil:
    return name.size == size and not memcmp(name.at, word, size)


cdef inline const uint8_t *_text(
    const uint8_t *at, const uint8_t *end, Py_ssize_t least, Py_ssize_t most, Text *to
) noexcept nogil:
    """Read a string of ``least`` to ``most`` characters; null for one that may be empty."""
    if not least and begins(at, end, b"null", 4):
        to.size = to.characters = 0
        return at + 4
    at = read_text(at, end, to)
    return at if at != NULL and least <= to.characters <= most else NULL


cdef inline const uint8_t *_number(
    const uint8_t *at, const uint8_t *end, int64_t least, int64_t most, bint optional, int64_t *to
) noexcept nogil:
    """Read a whole number from ``least`` to ``most``; null for an optional one is -1."""
    if optional and begins(at, end, b"null", 4):
        to[0] = -1
        return at + 4
    at = read_whole(at, end, to)
    return at if at != NULL and least <= to[0] <= most else NULL


cdef inline const uint8_t *_type(const uint8_t *at, const uint8_t *end, int *to) noexcept nogil:
    cdef Text text
    cdef int i
    at = read_text(at, end, &text)
    if at != NULL:
        for i in range(N_TYPES):
            if _is(&text, TYPE_TEXT[i], TYPE_SIZE[i]):
                to[0] = i
                return at
    return NULL


cdef inline const uint8_t *_surface(const uint8_t *at, const uint8_t *end) noexcept nogil:
    cdef Text text
    if begins(at, end, b"null", 4):
        return at + 4
    at = read_text(at, end, &text)
    if at != NULL and (_is(&text, b"home", 4) or _is(&text, b"related", 7) or _is(&text, b"digest", 6)):
        return at
    return NULL


cdef inline const uint8_t *_scope(const uint8_t *at, const uint8_t *end, bint *to) noexcept nogil:
    cdef Text text
    if begins(at, end, b"null", 4):
        return at + 4
    at = read_text(at, end, &text)
    if at != NULL:
        to[0] = _is(&text, b"creator", 7)
        if to[0] or _is(&text, b"item", 4):
            return at
    return NULL


cdef inline const uint8_t *_name(const uint8_t *at, const uint8_t *end, Text *to) noexcept nogil:
    """Read the ASCII name of a field and the colon; return the place of its value."""
    at = read_text(at, end, to)
    if at == NULL or to.characters != to.size:
        return NULL
    at = after_space(at, end)
    return after_space(at + 1, end) if at < end and at[0] == c':' else NULL


cdef inline const uint8_t *_field(
    const uint8_t *at, const uint8_t *end, const Field *fields, int n, int *next, int *bit
) noexcept nogil:
    """Read the name of a field; return the place of its value. Most events have the order of the schema.

    ``next`` is the field that should come; ``bit`` becomes 0 for an unknown one.
    """
    cdef Text name
    cdef int i
    for i in range(next[0], min(next[0] + 2, n)):
        if begins(at, end, fields[i].text, fields[i].size):
            next[0], bit[0] = i + 1, fields[i].bit
            return after_space(at + fields[i].size, end)
    at, bit[0] = _name(at, end, &name), 0
    if at != NULL:
        for i in range(n):
            if name.size == fields[i].size - 3 and not memcmp(name.at, fields[i].text + 1, name.size):
                next[0], bit[0] = i + 1, fields[i].bit
                break
    return at


cdef const uint8_t *_skip(const uint8_t *at, const uint8_t *end, int depth) noexcept nogil:
    """Skip any value."""
    cdef Text name
    cdef uint8_t close
    if at >= end or (at[0] != c'{' and at[0] != c'['):
        return skip_plain(at, end)
    if depth == DEEPEST:
        return NULL
    close = at[0] + 2  # } or ]
    at = after_space(at + 1, end)
    if at < end and at[0] == close:
        return at + 1
    while True:
        if close == c'}':
            at = _name(at, end, &name)
            if at == NULL:
                return NULL
        at = _skip(at, end, depth + 1)
        if at == NULL:
            return NULL
        at = after_space(at, end)
        if at >= end:
            return NULL
        if at[0] == close:
            return at + 1
        if at[0] != c',':
            return NULL
        at = after_space(at + 1, end)


cdef inline const uint8_t *_context_value(
    const uint8_t *at, const uint8_t *end, int field, Scan *to
) noexcept nogil:
    cdef int64_t time
    if field == COUNTRY:
        return _text(at, end, 0, LABEL, &to.country)
    if field == DEVICE:
        return _text(at, end, 0, LABEL, &to.device)
    if field == AGE:
        return _number(at, end, 0, OLDEST, True, &to.age)
    return _number(at, end, MIN_TS, MAX_TS, True, &time) if field == TIME else _skip(at, end, 1)


cdef inline const uint8_t *_event_value(
    const uint8_t *at, const uint8_t *end, int field, Scan *to
) noexcept nogil:
    if field == EVENT_ID:
        return _text(at, end, 1, ID, &to.event_id)
    if field == TYPE:
        return _type(at, end, &to.type)
    if field == USER:
        return _text(at, end, 1, ID, &to.user)
    if field == ITEM:
        return _text(at, end, 1, ID, &to.item)
    if field == TS:
        return _number(at, end, MIN_TS, MAX_TS, False, &to.ts)
    if field == DWELL:
        return _number(at, end, 0, DAY, True, &to.dwell_ms)
    if field == REQUEST:
        return _text(at, end, 0, ID, &to.request)
    if field == PLACE:
        return _number(at, end, 0, POSITION, True, &to.position)
    if field == SURFACE:
        return _surface(at, end)
    if field == SCOPE:
        return _scope(at, end, &to.of_creator)
    return _skip(at, end, 0)


cdef const uint8_t *_object(const uint8_t *at, const uint8_t *end, bint context, int *seen, Scan *to) noexcept nogil:
    """Read an event, or its context; ``seen`` gets the fields it has. A field that comes twice is unusual."""
    cdef int field, next = 0, inner = 0
    if at >= end or at[0] != c'{':
        return NULL
    at = after_space(at + 1, end)
    if at < end and at[0] == c'}':
        return at + 1
    while True:
        if context:
            at = _field(at, end, OF_CONTEXT, N_CONTEXT, &next, &field)
        else:
            at = _field(at, end, OF_EVENT, N_FIELDS, &next, &field)
        if at == NULL or seen[0] & field:
            return NULL
        seen[0] |= field
        if context:
            at = _context_value(at, end, field, to)
        elif field == CONTEXT and not begins(at, end, b"null", 4):
            at = _object(at, end, True, &inner, to)
        else:
            at = _event_value(at, end, field, to)
        if at == NULL:
            return NULL
        at = after_space(at, end)
        if at >= end:
            return NULL
        if at[0] == c'}':
            return at + 1
        if at[0] != c',':
            return NULL
        at = after_space(at + 1, end)


cdef inline bint _event(const uint8_t *at, const uint8_t *end, Scan *to) noexcept nogil:
    """Read a whole value; return whether it certainly is an event."""
    cdef int seen = 0
    to.dwell_ms, to.country.size, to.of_creator, to.age = -1, 0, False, -1
    at = _object(after_space(at, end), end, False, &seen, to)
    return at != NULL and after_space(at, end) == end and seen & REQUIRED == REQUIRED


cdef inline uint64_t _id(const Text *text, uint64_t k0, uint64_t k1) noexcept nogil:
    return siphash13(text.at, text.size, k0, k1) or 1 if text.size else 0


cdef int _check(Py_ssize_t size, const int64_t[:, :] parts, Py_ssize_t n) except -1:
    cdef Py_ssize_t i, part
    if parts.shape[0] != 4 or parts.shape[1] != n:
        raise ValueError("where keys and values are: four rows, a column for each record")
    for i in range(n):
        for part in (0, 2):
            if not (0 <= parts[part, i] <= size and -1 <= parts[part + 1, i] <= size - parts[part, i]):
                raise ValueError(f"record {i} is not in the payload")
    return 0


def scan_events(
    const uint8_t[::1] payload not None, const int64_t[:, :] parts not None, const int64_t[:] offsets not None,
    const int64_t[:] timestamps not None, dict kinds not None, *, Py_ssize_t max_bytes, **rules,
):
    cdef Py_ssize_t i, n = offsets.shape[0]
    cdef int codes[N_TYPES]
    cdef Scan scan
    cdef Told told
    cdef const uint8_t *start
    if timestamps.shape[0] != n:
        raise ValueError(f"{timestamps.shape[0]} timestamps of {n} records")
    _check(payload.shape[0], parts, n)
    for i, name in enumerate(TYPES):
        codes[i] = kinds[name]
    cdef Columns to = Columns(n, kinds, **rules)
    found = np.zeros(n, np.bool_)
    if not payload.shape[0]:
        return to.arrays, found
    cdef uint8_t[::1] certain = found.view(np.uint8)
    with nogil:
        for i in range(n):
            start = &payload[0] + parts[2, i]
            if not 0 < parts[3, i] <= max_bytes or not _event(start, start + parts[3, i], &scan):
                continue
            told.user, told.user_size = scan.user.at, scan.user.size
            told.item, told.event_id = _id(&scan.item, to.k0, to.k1), _id(&scan.event_id, to.k0, to.k1)
            told.country = _id(&scan.country, to.k0, to.k1)
            told.kind, told.ts, told.dwell_ms = codes[scan.type], scan.ts, scan.dwell_ms
            told.of_creator, told.age = scan.of_creator, <int>scan.age
            to.put(i, &told, &payload[0] + parts[0, i], parts[1, i], offsets[i], timestamps[i])
            certain[i] = True
    return to.arrays, found
