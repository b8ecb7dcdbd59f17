# cython: language_level=3, boundscheck=False, wraparound=False
"""Reads Avro's binary encoding, compiled: a plan is made of a schema once, and then walked for every message."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    NOTHING, BOOLEAN, NUMBER, FLOAT, DOUBLE, BYTES, STRING, ENUM, FIXED, UNION, RECORD, ARRAY, MAP
    LONGEST = 10  # bytes of a number

_KINDS = {
    "null": NOTHING, "boolean": BOOLEAN, "int": NUMBER, "long": NUMBER, "float": FLOAT, "double": DOUBLE,
    "bytes": BYTES, "string": STRING, "enum": ENUM, "fixed": FIXED, "union": UNION, "record": RECORD,
    "error": RECORD, "array": ARRAY, "map": MAP,
}


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end


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
