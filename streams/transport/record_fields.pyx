# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Records of a record batch (message format v2): found and made, compiled."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

import numpy as np

cdef enum:
    SMALLEST = 7  # bytes of a record with nothing in it

cdef int64_t FAR = 1 << 60  # sums of two numbers below do not overflow
cdef int64_t MOST = 1 << 31  # records of a batch

OFFSET, TIMESTAMP, KIND, KEY, KEY_SIZE, VALUE, VALUE_SIZE, HEADERS, N_HEADERS, FIELDS = range(10)


@cython.no_gc  # it refers to bytes alone, and to a list of them
@cython.freelist(100)
cdef class Record:
    """A record, with the attributes of aiokafka's."""

    cdef readonly int64_t offset, timestamp
    cdef readonly int timestamp_type
    cdef readonly object key, value
    cdef list _headers

    @property
    def headers(self):
        return [] if self._headers is None else self._headers

    @property
    def checksum(self):
        return None

    def __repr__(self):
        return (
            f"Record(offset={self.offset}, timestamp={self.timestamp}, timestamp_type={self.timestamp_type}, "
            f"key={self.key!r}, value={self.value!r}, headers={self.headers!r})"
        )


cdef inline bint _record(const uint8_t *text, Py_ssize_t size, Py_ssize_t *place, int64_t *out) noexcept nogil:
    """Read one record; its offset and timestamp are those relative to its batch."""
    cdef int64_t length, name, n_name, value, n_value, n
    cdef Py_ssize_t at = place[0], end
    if not read_number(text, size, &at, &length) or length < 1 or length > size - at:
        return False
    end = at + length
    if text[at] >= 0x80:  # attributes: one byte, without a meaning so far
        return False
    at += 1
    if not read_number(text, end, &at, &out[ROW_TIMESTAMP]) or not -FAR < out[ROW_TIMESTAMP] < FAR:
        return False
    if not read_number(text, end, &at, &out[ROW_OFFSET]) or not 0 <= out[ROW_OFFSET] < MOST:
        return False
    if not read_piece(text, end, &at, &out[ROW_KEY], &out[ROW_KEY_SIZE]):
        return False
    if not read_piece(text, end, &at, &out[ROW_VALUE], &out[ROW_VALUE_SIZE]):
        return False
    if not read_number(text, end, &at, &n) or n < 0:
        return False
    out[ROW_HEADERS], out[ROW_N_HEADERS] = at, n
    while n > 0:
        if not read_header(text, end, &at, &name, &n_name, &value, &n_value):
            return False
        n -= 1
    place[0] = at
    return at == end


def find_records(
    const uint8_t[::1] payload not None, int64_t count, int64_t base_offset, int64_t base_timestamp,
    appended_at, int64_t shift,
):
    cdef Py_ssize_t i, at = 0, size = payload.shape[0]
    cdef bint dated = appended_at is not None
    cdef int64_t date = appended_at if dated else 0
    cdef int64_t found[N_FIELDS]
    cdef bint sound = True
    if not 0 < count <= size // SMALLEST or not 0 <= base_offset < FAR or not -FAR < base_timestamp < FAR:
        return None
    fields = np.empty((N_FIELDS, count), np.int64)
    cdef int64_t[:, ::1] to = fields
    cdef const uint8_t *text = &payload[0]
    with nogil:
        for i in range(count):
            sound = _record(text, size, &at, found)
            if not sound:
                break
            to[ROW_OFFSET, i] = base_offset + found[ROW_OFFSET]
            to[ROW_TIMESTAMP, i] = date if dated else base_timestamp + found[ROW_TIMESTAMP]
            to[ROW_KIND, i] = dated
            to[ROW_KEY, i] = shift + found[ROW_KEY]
            to[ROW_KEY_SIZE, i] = found[ROW_KEY_SIZE]
            to[ROW_VALUE, i] = shift + found[ROW_VALUE]
            to[ROW_VALUE_SIZE, i] = found[ROW_VALUE_SIZE]
            to[ROW_HEADERS, i] = shift + found[ROW_HEADERS]
            to[ROW_N_HEADERS, i] = found[ROW_N_HEADERS]
    return fields if sound and at == size else None


cdef object _bytes(const uint8_t *text, int64_t at, int64_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<const char *> text + at, size)


cdef list _headers(const uint8_t *text, Py_ssize_t end, Py_ssize_t at, int64_t n):
    cdef int64_t name, n_name, value, n_value
    headers = []
    while n > 0:
        if not read_header(text, end, &at, &name, &n_name, &value, &n_value):
            raise ValueError("no header there")
        headers.append((_bytes(text, name, n_name).decode(), _bytes(text, value, n_value)))
        n -= 1
    return headers


cdef int check_fields(const int64_t[:, :] fields, Py_ssize_t size) except -1:
    """Raise ``ValueError`` when a key or a value is not inside of the payload."""
    cdef Py_ssize_t i
    if fields.shape[0] != N_FIELDS:
        raise ValueError(f"{fields.shape[0]} fields, not {N_FIELDS}")
    for i in range(fields.shape[1]):
        if not (
            0 <= fields[ROW_KEY, i] <= size and -1 <= fields[ROW_KEY_SIZE, i] <= size - fields[ROW_KEY, i]
            and 0 <= fields[ROW_VALUE, i] <= size and -1 <= fields[ROW_VALUE_SIZE, i] <= size - fields[ROW_VALUE, i]
            and 0 <= fields[ROW_HEADERS, i] <= size
        ):
            raise ValueError(f"record {i} is not in the payload")
    return 0


def make_records(const uint8_t[::1] payload not None, const int64_t[:, :] fields not None):
    cdef Py_ssize_t i, size = payload.shape[0]
    cdef Record record
    cdef list out = []
    check_fields(fields, size)
    if not fields.shape[1]:
        return out
    cdef const uint8_t *text = &payload[0]
    for i in range(fields.shape[1]):
        record = Record.__new__(Record)
        record.offset, record.timestamp = fields[ROW_OFFSET, i], fields[ROW_TIMESTAMP, i]
        record.timestamp_type = <int> fields[ROW_KIND, i]
        record.key = _bytes(text, fields[ROW_KEY, i], fields[ROW_KEY_SIZE, i])
        record.value = _bytes(text, fields[ROW_VALUE, i], fields[ROW_VALUE_SIZE, i])
        if fields[ROW_N_HEADERS, i]:
            record._headers = _headers(text, size, fields[ROW_HEADERS, i], fields[ROW_N_HEADERS, i])
        out.append(record)
    return out


def with_header(const uint8_t[::1] payload not None, const int64_t[:, :] fields not None, bytes name not None):
    cdef Py_ssize_t i, at, size = payload.shape[0], wanted = len(name)
    cdef int64_t n, start, n_name, value, n_value
    cdef const uint8_t *sought = name
    check_fields(fields, size)
    found = np.zeros(fields.shape[1], np.bool_)
    cdef uint8_t[::1] to = found.view(np.uint8)
    for i in range(fields.shape[1]):
        n, at = fields[ROW_N_HEADERS, i], fields[ROW_HEADERS, i]
        while n > 0:
            if not read_header(&payload[0], size, &at, &start, &n_name, &value, &n_value):
                raise ValueError("no header there")
            if n_name == wanted and not memcmp(&payload[0] + start, sought, wanted):
                to[i] = True
            n -= 1
    return found
