# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Reads Avro's binary encoding, compiled: a plan is made of a schema once, and then walked for every message.

``read`` makes an object of a message. ``tell`` writes the same of many messages as JSON, without objects.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from headrace.streams.messages.json_text cimport Text, read_text
from headrace.streams.transport.record_fields cimport (
    ROW_HEADERS, ROW_KEY, ROW_KEY_SIZE, ROW_N_HEADERS, ROW_VALUE, ROW_VALUE_SIZE, check_fields, read_header,
)

import numpy as np

cdef enum:
    NOTHING, BOOLEAN, NUMBER, FLOAT, DOUBLE, BYTES, STRING, ENUM, FIXED, UNION, RECORD, ARRAY, MAP
    LONGEST = 10  # bytes of a number
    MOST_DIGITS = 20  # of a number in JSON, with its sign

_KINDS = {
    "null": NOTHING, "boolean": BOOLEAN, "int": NUMBER, "long": NUMBER, "float": FLOAT, "double": DOUBLE,
    "bytes": BYTES, "string": STRING, "enum": ENUM, "fixed": FIXED, "union": UNION, "record": RECORD,
    "error": RECORD, "array": ARRAY, "map": MAP,
}


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end


cdef struct Out:
    uint8_t *at
    uint8_t *key  # where the text of the key's field is; null: it is none
    Py_ssize_t key_size


cdef class Plan:
    """How a value is read.

    Parameters
    ----------
    kind
        A type of Avro.
    parts
        Plans of the fields, of the branches, or of the items.
    names
        Names of the fields, or symbols; a field without a name (None) is read and left out.
    size
        Bytes of a fixed value.
    """

    cdef int kind
    cdef tuple parts, names
    cdef Py_ssize_t size
    cdef readonly bint tells
    cdef Py_ssize_t room  # most bytes that its JSON takes, texts not counted
    cdef tuple heads  # a name as JSON with its colon, None for a field that is left out

    def __init__(self, str kind not None, parts=(), names=(), Py_ssize_t size=0):
        self.kind = _KINDS[kind]
        self.parts, self.names, self.size = tuple(parts), tuple(names), size
        for part in self.parts:
            if not isinstance(part, Plan):
                raise TypeError("a part is a Plan")
        if self.kind == RECORD and len(self.names) != len(self.parts):
            raise ValueError("every field has a name, or None")
        if size < 0 or (self.kind in (ARRAY, MAP) and len(self.parts) != 1):
            raise ValueError("no such plan")
        self._prepare()

    cdef _prepare(self):
        """See whether the value can be told as JSON: texts, numbers and null, in records and unions of them."""
        cdef Py_ssize_t i
        cdef Plan part
        self.tells = self.kind in (STRING, NUMBER, NOTHING, UNION, RECORD)
        self.heads, self.room = (), MOST_DIGITS
        kept = [name for name in self.names if name is not None]
        if self.kind == RECORD:
            self.heads = tuple([None if name is None else f'"{name}":'.encode() for name in self.names])
            self.room = 2
            if len(set(kept)) < len(kept) or not all([name.isascii() and name.isidentifier() for name in kept]):
                self.tells = False
        for i in range(len(self.parts)):
            part = self.parts[i]
            if self.kind == UNION:
                self.tells, self.room = self.tells and part.tells, max(self.room, part.room)
            elif self.kind == RECORD and self.heads[i] is not None:
                self.tells, self.room = self.tells and part.tells, self.room + part.room + len(self.heads[i]) + 1

    def read(self, bytes body not None, Py_ssize_t start):
        """Return the value in ``body`` from ``start`` on; it must end there."""
        cdef Cursor c
        if not 0 <= start <= PyBytes_GET_SIZE(body):
            raise ValueError("it begins behind its end")
        c.at = <const uint8_t *> PyBytes_AS_STRING(body) + start
        c.end = <const uint8_t *> PyBytes_AS_STRING(body) + PyBytes_GET_SIZE(body)
        found = _read(self, &c)
        if c.at != c.end:
            raise ValueError("bytes are left behind it")
        return found

    def tell(
        self, const uint8_t[::1] payload not None, const int64_t[:, :] fields not None,
        const int64_t[:] places not None, Py_ssize_t start, str key not None,
    ):
        cdef Py_ssize_t i, place, size = payload.shape[0], room = 0, n = places.shape[0]
        cdef const uint8_t *value
        cdef uint8_t *before
        cdef Cursor c
        cdef Out out
        if not self.tells or self.kind != RECORD or start < 0:
            raise ValueError("it cannot be told")
        check_fields(fields, size)
        for i in range(n):
            if not 0 <= places[i] < fields.shape[1]:
                raise ValueError(f"no record {places[i]}")
            room += self.room + max(0, fields[ROW_VALUE_SIZE, places[i]])
        sizes, other_keys = np.full(n, -1, np.int64), np.zeros(n, np.bool_)
        cdef int64_t[::1] to = sizes
        cdef uint8_t[::1] other = other_keys.view(np.uint8)
        cdef Py_ssize_t at_key = self.names.index(key) if key in self.names else -1
        if not size:
            return b"", sizes, other_keys
        text = PyBytes_FromStringAndSize(NULL, room)
        cdef uint8_t *begin = <uint8_t *> PyBytes_AS_STRING(text)
        out.at = begin
        for i in range(n):
            place, before = places[i], out.at
            if fields[ROW_VALUE_SIZE, place] < start or not _headers_are_none_of_ours(payload, fields, place):
                continue
            value = &payload[0] + fields[ROW_VALUE, place]
            c.at, c.end = value + start, value + fields[ROW_VALUE_SIZE, place]
            out.key = NULL
            try:
                _tell_record(self, &c, &out, at_key)
                if c.at != c.end:
                    raise ValueError("bytes are left behind it")
            except Exception:  # ``read`` says what is wrong, if anything
                out.at = before
                continue
            to[i] = out.at - before
            other[i] = out.key != NULL and (
                fields[ROW_KEY_SIZE, place] != out.key_size
                or memcmp(&payload[0] + fields[ROW_KEY, place], out.key, out.key_size) != 0
            )
        return text[: out.at - begin], sizes, other_keys


cdef bint _headers_are_none_of_ours(const uint8_t[::1] payload, const int64_t[:, :] fields, Py_ssize_t place):
    """Return whether no header can be one that says what the value is: ``content-type``, ``ce_...``."""
    cdef int64_t n = fields[ROW_N_HEADERS, place], name, n_name, value, n_value
    cdef Py_ssize_t at = fields[ROW_HEADERS, place]
    while n > 0:
        if not read_header(&payload[0], payload.shape[0], &at, &name, &n_name, &value, &n_value):
            return False
        if n_name and payload[name] | 0x20 == c'c':
            return False
        n -= 1
    return True


cdef int _tell_record(Plan plan, Cursor *c, Out *out, Py_ssize_t at_key) except -1:
    """Write a record as JSON. It raises where that may differ from the JSON of the object that is read."""
    cdef Py_ssize_t i
    cdef bint first = True
    cdef bytes head
    cdef uint8_t *value
    out.at[0] = c'{'
    out.at += 1
    for i in range(len(plan.parts)):
        head = plan.heads[i]
        if head is None:
            _read(<Plan> plan.parts[i], c)
            continue
        if not first:
            out.at[0] = c','
            out.at += 1
        first = False
        memcpy(out.at, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        out.at += PyBytes_GET_SIZE(head)
        value = out.at
        _tell(<Plan> plan.parts[i], c, out)
        if i == at_key and value[0] == c'"':
            out.key, out.key_size = value + 1, out.at - value - 2
    out.at[0] = c'}'
    out.at += 1
    return 0


cdef int _tell(Plan plan, Cursor *c, Out *out) except -1:
    cdef int64_t number
    cdef Text text
    cdef const uint8_t *from_
    cdef uint8_t *at = out.at
    while plan.kind == UNION:
        _number(c, &number)
        if not 0 <= number < len(plan.parts):
            raise ValueError("a union has no such branch")
        plan = <Plan> plan.parts[number]
    if plan.kind == STRING:
        _number(c, &number)
        from_ = _take(c, number)
        at[0] = at[number + 1] = c'"'
        memcpy(at + 1, from_, number)
        out.at = at + number + 2
        if read_text(at, out.at, &text) != out.at:  # a quote, an escape, or no UTF-8
            raise ValueError("a text that is written in another way, or is none")
    elif plan.kind == NUMBER:
        _number(c, &number)
        out.at = _digits(number, at)
    elif plan.kind == NOTHING:
        memcpy(at, b"null", 4)
        out.at = at + 4
    elif plan.kind == RECORD:
        _tell_record(plan, c, out, -1)
    else:
        raise ValueError("no such value is told")
    return 0


cdef uint8_t *_digits(int64_t number, uint8_t *at) noexcept:
    """Write a number; return the place after it."""
    cdef uint8_t digits[MOST_DIGITS]
    cdef int n = 0
    cdef uint64_t rest = <uint64_t> number
    if number < 0:
        at[0] = c'-'
        at += 1
        rest = 0 - rest
    while True:
        digits[n] = c'0' + <uint8_t> (rest % 10)
        n += 1
        rest //= 10
        if not rest:
            break
    while n:
        n -= 1
        at[0] = digits[n]
        at += 1
    return at


cdef int _number(Cursor *c, int64_t *out) except -1:
    cdef uint64_t value = 0
    cdef int i
    cdef uint8_t byte
    for i in range(LONGEST):
        if c.at == c.end:
            raise ValueError("it ends in a number")
        byte = c.at[0]
        c.at += 1
        value |= <uint64_t> (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            out[0] = <int64_t> (value >> 1) ^ -<int64_t> (value & 1)
            return 0
    raise ValueError("a number is too long")


cdef const uint8_t *_take(Cursor *c, int64_t size) except NULL:
    """Return where the next ``size`` bytes are, and go past them."""
    cdef const uint8_t *at = c.at
    if size < 0 or size > c.end - c.at:
        raise ValueError("it ends too early")
    c.at += size
    return at


cdef object _text(Cursor *c):
    cdef int64_t size
    _number(c, &size)
    return PyUnicode_DecodeUTF8(<const char *> _take(c, size), <Py_ssize_t> size, NULL)


cdef object _read(Plan plan, Cursor *c):
    cdef int kind = plan.kind
    cdef int64_t number
    cdef float single
    cdef double double_
    cdef dict out
    cdef Py_ssize_t i
    if kind == STRING:
        return _text(c)
    if kind == UNION:
        _number(c, &number)
        if not 0 <= number < len(plan.parts):
            raise ValueError("a union has no such branch")
        return _read(<Plan> plan.parts[number], c)
    if kind == NUMBER:
        _number(c, &number)
        return number
    if kind == NOTHING:
        return None
    if kind == RECORD:
        out = {}
        for i in range(len(plan.parts)):
            value = _read(<Plan> plan.parts[i], c)
            name = plan.names[i]
            if name is not None:
                out[name] = value
        return out
    if kind == BOOLEAN:
        return _take(c, 1)[0] == 1
    if kind == FLOAT:
        memcpy(&single, _take(c, 4), 4)
        return single
    if kind == DOUBLE:
        memcpy(&double_, _take(c, 8), 8)
        return double_
    if kind == FIXED:
        return PyBytes_FromStringAndSize(<const char *> _take(c, plan.size), plan.size)
    _number(c, &number)
    if kind == BYTES:
        return PyBytes_FromStringAndSize(<const char *> _take(c, number), <Py_ssize_t> number)
    if kind == ENUM:
        if not 0 <= number < len(plan.names):
            raise ValueError("an enum has no such symbol")
        return plan.names[number]
    return _items(plan, c, number) if kind == ARRAY else _entries(plan, c, number)


cdef int64_t _block(Cursor *c, int64_t count) except -1:
    """Return how many values a block has. Each takes a byte at least: the schema was checked."""
    cdef int64_t size
    if count < 0:
        _number(c, &size)
        count = -count
    if not 0 <= count <= c.end - c.at:
        raise ValueError("a block has more values than bytes")
    return count


cdef list _items(Plan plan, Cursor *c, int64_t count):
    cdef list out = []
    cdef Plan item = plan.parts[0]
    while count:
        for _ in range(_block(c, count)):
            out.append(_read(item, c))
        _number(c, &count)
    return out


cdef dict _entries(Plan plan, Cursor *c, int64_t count):
    cdef dict out = {}
    cdef Plan value = plan.parts[0]
    while count:
        for _ in range(_block(c, count)):
            name = _text(c)
            out[name] = _read(value, c)
        _number(c, &count)
    return out
