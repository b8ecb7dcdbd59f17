# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Inner loops of the engine, compiled: key index, rows as bytes, windows, ids last seen.

Rows are structured arrays, taken as raw bytes; a small int64 array (the *plan*) says where in a row things
lie. Arguments are checked before anything is written, so a refused call changes nothing.
"""

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np

cdef extern from *:
    """
    #define HEADRACE_MIX 0x9E3779B97F4A7C15ULL
    """
    const uint64_t MIX "HEADRACE_MIX"  # golden ratio: spreads keys that are not hashes, too

cdef enum:
    MAX_TIERS = 8
    MAX_METRICS = 64
    MIN_SLOTS = 64
    PACK_BYTES = 65536


cdef class _Bytes:
    """The raw bytes of a one-dimensional array of rows."""

    cdef Py_buffer view
    cdef char *start
    cdef Py_ssize_t step, n, size
    cdef bint held

    def __cinit__(self, data, bint writable):
        PyObject_GetBuffer(data, &self.view, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        self.held = True
        if <size_t> self.view.buf & 1 and not writable:  # read out of the middle of a message
            PyBuffer_Release(&self.view)
            self.held = False
            PyObject_GetBuffer(data.copy(), &self.view, PyBUF_STRIDES)
            self.held = True
        if self.view.ndim != 1:
            raise ValueError(f"rows come as a one-dimensional array, not {self.view.ndim}-dimensional")
        self.start = <char *> self.view.buf
        self.step, self.n, self.size = self.view.strides[0], self.view.shape[0], self.view.itemsize

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef int _same_length(Py_ssize_t n, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) except -1:
    if a != n or b != n or c != n:
        raise ValueError(f"arrays of {n}, {a}, {b} and {c} do not belong together")
    return 0


# --- Key index ----------------------------------------------------------------------------------------------

cdef packed struct Slot:
    uint64_t key
    int32_t row  # + 1; 0 is an empty slot


cdef class KeyIndex:
    """Row number of each 64-bit key: open addressing; rows given up are given out again.

    A key lies in the first free slot from its home on. Dropping one moves the following ones back, so there
    are no tombstones and searches stay short however many keys come and go.
    """

    cdef Slot *slots
    cdef int32_t *spare  # rows given up
    cdef size_t size
    cdef Py_ssize_t count, n_spare, spare_size
    cdef int shift
    cdef readonly Py_ssize_t used

    def __cinit__(self, Py_ssize_t capacity=0):
        self.size, self.shift = MIN_SLOTS, 64 - 6
        while self.size * 3 < <size_t> capacity * 4:
            self.size, self.shift = self.size * 2, self.shift - 1
        self.slots = <Slot *> calloc(self.size, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)
        free(self.spare)

    def __len__(self):
        return self.count

    @property
    def nbytes(self):
        return self.size * sizeof(Slot) + self.spare_size * sizeof(int32_t)

    cdef inline size_t _search(self, uint64_t key) noexcept:
        """Return the slot of ``key``, or the free one where it belongs."""
        cdef size_t at = <size_t> ((key * MIX) >> self.shift)
        while self.slots[at].row and self.slots[at].key != key:
            at = (at + 1) & (self.size - 1)
        return at

    cdef int _grow(self) except -1:
        cdef Slot *old = self.slots
        cdef Slot *new = <Slot *> calloc(self.size * 2, sizeof(Slot))
        cdef size_t i, n = self.size
        if new == NULL:
            raise MemoryError()
        self.slots, self.size, self.shift = new, n * 2, self.shift - 1
        for i in range(n):  # homes are in the order of the old ones: memory is walked, not jumped about in
            if old[i].row:
                new[self._search(old[i].key)] = old[i]
        free(old)
        return 0

    cdef void _remove(self, size_t hole) noexcept:
        cdef size_t mask = self.size - 1, i = hole, home
        while True:
            i = (i + 1) & mask
            if not self.slots[i].row:
                break
            home = <size_t> ((self.slots[i].key * MIX) >> self.shift)
            if ((i - home) & mask) >= ((i - hole) & mask):  # its home is not between the hole and it
                self.slots[hole] = self.slots[i]
                hole = i
        self.slots[hole].row = 0

    def get(self, uint64_t key):
        return self.slots[self._search(key)].row - 1

    def find(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, n = keys.shape[0]
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        for i in range(n):
            rows[i] = self.slots[self._search(keys[i])].row - 1
        return out

    def take(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, made = 0, n = keys.shape[0]
        cdef size_t at
        cdef int32_t row
        out, new = np.empty(n, np.int64), np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        cdef int64_t[::1] where = new
        for i in range(n):
            at = self._search(keys[i])
            if not self.slots[at].row:
                if <size_t> (self.count + 1) * 4 > self.size * 3:
                    self._grow()
                    at = self._search(keys[i])
                if self.n_spare:
                    self.n_spare -= 1
                    row = self.spare[self.n_spare]
                elif self.used < 0x7FFFFFFE:
                    row = <int32_t> self.used
                    self.used += 1
                else:
                    raise OverflowError("a table holds at most 2**31 - 2 rows")
                self.slots[at].key, self.slots[at].row = keys[i], row + 1
                self.count += 1
                where[made] = i
                made += 1
            rows[i] = self.slots[at].row - 1
        return out, new[:made]

    def drop(self, const uint64_t[::1] keys not None):
        cdef Py_ssize_t i, gone = 0, n = keys.shape[0]
        cdef size_t at
        out = np.empty(n, np.int64)
        cdef int64_t[::1] rows = out
        cdef int32_t *spare
        if self.n_spare + n > self.spare_size:
            spare = <int32_t *> realloc(self.spare, (self.n_spare + n) * 2 * sizeof(int32_t))
            if spare == NULL:
                raise MemoryError()
            self.spare, self.spare_size = spare, (self.n_spare + n) * 2
        for i in range(n):
            at = self._search(keys[i])
            if self.slots[at].row:
                rows[gone] = self.slots[at].row - 1
                self.spare[self.n_spare] = self.slots[at].row - 1
                self.n_spare += 1
                gone += 1
                self.count -= 1
                self._remove(at)
        return out[:gone]

    def items(self):
        cdef size_t i
        keys, there = np.zeros(self.used, np.uint64), np.zeros(self.used, np.uint8)
        cdef uint64_t[::1] k = keys
        cdef uint8_t[::1] t = there
        for i in range(self.size):
            if self.slots[i].row:
                k[self.slots[i].row - 1] = self.slots[i].key
                t[self.slots[i].row - 1] = 1
        rows = np.flatnonzero(there)
        return keys[rows], rows


# --- Packed rows --------------------------------------------------------------------------------------------
#
# Most of a row is zero: buckets of quiet hours, places not taken. Packed, a row is
#
#     a bit for each 8-byte word that is not zero, then for each of those: a bit for each byte, those bytes
#
# and, where that would not be shorter, the row as it is.

cdef inline int _ones(uint8_t mask) noexcept nogil:
    mask = mask - ((mask >> 1) & 0x55)
    mask = (mask & 0x33) + ((mask >> 2) & 0x33)
    return (mask + (mask >> 4)) & 0x0F


cdef inline uint64_t _word_at(const char *row, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    cdef uint64_t word = 0
    if at + 8 <= size:
        memcpy(&word, row + at, 8)
    else:
        memcpy(&word, row + at, size - at)
    return word


cdef Py_ssize_t _pack(const char *row, Py_ssize_t size, uint8_t *out) noexcept nogil:
    """Pack a row; return its length. Up to ``size / 8 + 8`` bytes more than ``size`` are written."""
    cdef Py_ssize_t at, n_mask = (size + 63) // 64
    cdef uint8_t *to = out + n_mask
    cdef uint8_t *end = out + size
    cdef uint8_t *mask
    cdef uint8_t bits, byte
    cdef uint64_t word
    cdef int j
    memset(out, 0, n_mask)
    for at in range(0, size, 8):
        word = _word_at(row, at, size)
        if not word:
            continue
        out[at >> 6] |= <uint8_t> (1 << (at >> 3 & 7))
        mask = to
        to += 1
        bits = 0
        for j in range(8):  # without a jump: which bytes are zero cannot be guessed
            byte = <uint8_t> (word >> 8 * j)
            to[0] = byte
            bits |= <uint8_t> ((byte != 0) << j)
            to += byte != 0
        mask[0] = bits
        if to >= end:
            memcpy(out, row, size)
            return size
    return to - out


cdef bint _sound(const uint8_t *packed, Py_ssize_t length, Py_ssize_t size,
                 Py_ssize_t want_a, uint64_t *a, Py_ssize_t want_b, uint64_t *b) noexcept nogil:
    """Return whether ``packed`` is a row of ``size`` bytes; tell the words at two places."""
    cdef Py_ssize_t k, word, n_mask = (size + 63) // 64, at = n_mask
    cdef uint8_t bits, left
    cdef uint64_t value
    cdef int j
    a[0] = b[0] = 0
    if length == size:
        if want_a >= 0:
            a[0] = _word_at(<const char *> packed, want_a, size)
        if want_b >= 0:
            b[0] = _word_at(<const char *> packed, want_b, size)
        return True
    if length > size or length < n_mask:
        return False
    for k in range(n_mask):
        left = packed[k]
        word = k * 64
        while left:
            if left & 1:
                if word >= size or at >= length:
                    return False
                bits = packed[at]
                at += 1
                if size - word < 8 and bits >> (size - word):
                    return False
                if at + _ones(bits) > length:
                    return False
                if word == want_a or word == want_b:
                    value = 0
                    for j in range(8):
                        if bits >> j & 1:
                            value |= <uint64_t> packed[at] << 8 * j
                            at += 1
                    if word == want_a:
                        a[0] = value
                    if word == want_b:
                        b[0] = value
                else:
                    at += _ones(bits)
            left >>= 1
            word += 8
    return at == length


cdef void _unpack(const uint8_t *packed, Py_ssize_t length, char *row, Py_ssize_t size) noexcept nogil:
    """Unpack what ``_sound`` found good."""
    cdef Py_ssize_t k, n_mask = (size + 63) // 64
    cdef const uint8_t *at = packed + n_mask
    cdef char *word
    cdef uint8_t left, bits
    cdef int j
    if length == size:
        memcpy(row, packed, size)
        return
    memset(row, 0, size)
    for k in range(n_mask):
        left = packed[k]
        word = row + k * 64
        while left:
            if left & 1:
                bits = at[0]
                at += 1
                if bits == 0xFF:
                    memcpy(word, at, 8)
                    at += 8
                else:
                    j = 0
                    while bits:
                        if bits & 1:
                            word[j] = at[0]
                            at += 1
                        bits >>= 1
                        j += 1
            left >>= 1
            word += 8


def pack_rows(data, const int64_t[::1] rows not None):
    cdef _Bytes source = _Bytes(data, False)
    cdef Py_ssize_t i, size = source.size, n = rows.shape[0], used = 0, slack = size // 8 + 16
    cdef Py_ssize_t room = max(PACK_BYTES, size + slack), start = 0
    _inside(rows, source.n)
    pieces = []
    ends = np.zeros(n + 1, np.int64)
    cdef int64_t[::1] bounds = ends
    cdef uint8_t *to = <uint8_t *> malloc(room)  # small enough to stay in the cache, and in the process
    if to == NULL:
        raise MemoryError()
    try:
        for i in range(n):
            if used - start + size + slack > room:
                pieces.append(PyBytes_FromStringAndSize(<char *> to, used - start))
                start = used
            used += _pack(source.start + rows[i] * source.step, size, to + (used - start))
            bounds[i + 1] = used
        pieces.append(PyBytes_FromStringAndSize(<char *> to, used - start))
    finally:
        free(to)
    return b"".join(pieces), ends


def unpack_rows(given, data):
    cdef _Bytes to = _Bytes(data, True)
    cdef Py_ssize_t i, length
    cdef uint64_t a, b
    cdef const uint8_t *start
    if len(given) != to.n:
        raise ValueError("a row for each of those given")
    sound = np.zeros(to.n, np.bool_)
    cdef uint8_t[::1] fine = sound.view(np.uint8)
    for i, one in enumerate(given):
        if one is None:
            continue
        start, length = <const uint8_t *> PyBytes_AS_STRING(<bytes?> one), PyBytes_GET_SIZE(one)
        if _sound(start, length, to.size, -1, &a, -1, &b):
            _unpack(start, length, to.start + i * to.step, to.size)
            fine[i] = True
    return sound


cdef class GivenRows:
    """Rows of one size and layout, packed or not, of whatever was given."""

    cdef object _given  # keeps what ``starts`` points at
    cdef char **starts
    cdef Py_ssize_t *lengths
    cdef Py_ssize_t n, size
    cdef readonly object keys
    cdef readonly Py_ssize_t refused

    def __cinit__(self, given, Py_ssize_t size, Py_ssize_t key_at, Py_ssize_t layout_at, uint32_t layout):
        cdef Py_ssize_t i, length, n = len(given), key_word = key_at & ~7, layout_word = max(layout_at, 0) & ~7
        cdef _Bytes array = None
        cdef char *start
        cdef uint64_t key, its
        if not (0 <= key_at <= size - 8 and layout_at <= size - 4):
            raise ValueError("key and layout lie inside a row")
        if key_at & 7 or layout_at & 3 and layout_at >= 0:
            raise ValueError("key and layout lie at multiples of their size")
        if hasattr(given, "dtype"):
            array = self._given = _Bytes(given, False)
            if array.size != size:
                raise ValueError(f"rows of {size} bytes are wanted, not of {array.size}")
        else:
            self._given = tuple(given)
        self.starts = <char **> malloc(max(n, 1) * sizeof(char *))
        self.lengths = <Py_ssize_t *> malloc(max(n, 1) * sizeof(Py_ssize_t))
        if self.starts == NULL or self.lengths == NULL:
            raise MemoryError()
        self.size = size
        keys = np.empty(n, np.uint64)
        cdef uint64_t[::1] k = keys
        for i in range(n):
            if array is not None:
                self.starts[i], self.lengths[i] = array.start + i * array.step, size
            else:
                one = <bytes?> (<tuple> self._given)[i]
                self.starts[i], self.lengths[i] = PyBytes_AS_STRING(one), PyBytes_GET_SIZE(one)
        with nogil:  # recovery applies in one thread while another parses what comes next
            for i in range(n):
                start, length = self.starts[i], self.lengths[i]
                if not _sound(<uint8_t *> start, length, size, key_word, &key, layout_word, &its):
                    continue
                if layout_at >= 0 and <uint32_t> (its >> 8 * (layout_at & 7)) != layout:
                    continue
                if key:  # 0 is nobody
                    self.starts[self.n], self.lengths[self.n], k[self.n] = start, length, key
                    self.n += 1
        self.keys, self.refused = keys[: self.n], n - self.n

    def __dealloc__(self):
        free(self.starts)
        free(self.lengths)

    def put(self, data, const int64_t[::1] rows not None, const int64_t[::1] new not None,
            const int64_t[::1] order_at not None):
        cdef _Bytes to = _Bytes(data, True)
        cdef Py_ssize_t i, made = 0, put = 0
        cdef char *old
        cdef char *row
        cdef char *room
        cdef bint newer
        if rows.shape[0] != self.n or to.size != self.size:
            raise ValueError("these are not the rows of this data")
        _inside(rows, to.n)
        room = <char *> malloc(self.size)
        if room == NULL:
            raise MemoryError()
        with nogil:
            for i in range(self.n):
                old = to.start + rows[i] * to.step
                row = self.starts[i]
                if self.lengths[i] != self.size:
                    _unpack(<uint8_t *> row, self.lengths[i], room, self.size)
                    row = room
                if made < new.shape[0] and new[made] == i:
                    made = made + 1
                    newer = True
                else:
                    newer = not _before(row, old, order_at)
                if newer:
                    memcpy(old, row, self.size)
                    put += 1
        free(room)
        return put


cdef bint _before(char *a, char *b, const int64_t[::1] order_at) noexcept nogil:
    """Return whether ``a`` is older, by the first of the int64 fields that differs."""
    cdef Py_ssize_t k
    cdef int64_t x, y
    for k in range(order_at.shape[0]):
        memcpy(&x, a + order_at[k], 8)
        memcpy(&y, b + order_at[k], 8)
        if x != y:
            return x < y
    return False


cdef int _inside(const int64_t[::1] rows, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if rows[i] < 0 or rows[i] >= n:
            raise IndexError(f"row {rows[i]} of {n}")
    return 0


def blank_rows(data, blank, const int64_t[::1] rows not None, Py_ssize_t key_at,
               const uint64_t[::1] keys not None):
    cdef _Bytes to = _Bytes(data, True)
    cdef _Bytes like = _Bytes(blank, False)
    cdef Py_ssize_t i
    cdef char *row
    if like.n != 1 or like.size != to.size or keys.shape[0] != rows.shape[0] or not 0 <= key_at <= to.size - 8:
        raise ValueError("one blank row, and a key for every row")
    _inside(rows, to.n)
    for i in range(rows.shape[0]):
        row = to.start + rows[i] * to.step
        memcpy(row, like.start, to.size)
        memcpy(row + key_at, &keys[i], 8)


# --- Records of a record batch ------------------------------------------------------------------------------

cdef inline Py_ssize_t _varint(uint64_t number, uint8_t *out) noexcept nogil:
    """Write a number, zigzag-coded already; return its length."""
    cdef Py_ssize_t n = 0
    while number >= 0x80:
        out[n] = <uint8_t> (number | 0x80)
        number >>= 7
        n += 1
    out[n] = <uint8_t> number
    return n + 1


def frame_records(keys, const uint8_t[::1] blob not None, const int64_t[::1] bounds not None, Py_ssize_t max_bytes):
    cdef const uint64_t[::1] key
    cdef bint keyed = keys is not None
    cdef Py_ssize_t i, size, length, used = 0, count = 0, n = bounds.shape[0] - 1
    cdef uint8_t head[32]
    cdef uint8_t tail[16]
    cdef Py_ssize_t n_head, n_tail
    if n < 0 or n and (bounds[0] < 0 or bounds[n] > blob.shape[0]):
        raise ValueError("bounds lie inside the blob")
    if keyed:
        key = keys
        if key.shape[0] != n:
            raise ValueError(f"{key.shape[0]} keys for {n} values")
    for i in range(n):
        if bounds[i + 1] < bounds[i]:
            raise ValueError("bounds rise")
    frames = []
    room = np.empty(min(max_bytes, blob.shape[0] + 48 * n) + 64, np.uint8)
    cdef uint8_t[::1] out = room
    for i in range(n):
        size = bounds[i + 1] - bounds[i]
        while True:
            head[0] = head[1] = 0  # attributes; milliseconds after the batch's first record
            n_head = 2 + _varint(<uint64_t> count << 1, &head[2])
            if keyed:
                head[n_head] = 8 << 1
                memcpy(&head[n_head + 1], &key[i], 8)
                n_head += 9
            else:
                head[n_head] = 1  # no key
                n_head += 1
            n_head += _varint(<uint64_t> size << 1, &head[n_head])
            length = n_head + size + 1  # no headers
            n_tail = _varint(<uint64_t> length << 1, tail)
            if not count or used + n_tail + length <= max_bytes:
                break
            frames.append((room[:used].tobytes(), count))
            used = count = 0
        if used + n_tail + length > out.shape[0]:
            room = np.empty(used + n_tail + length, np.uint8)  # an only record of any size
            out = room
        memcpy(&out[used], tail, n_tail)
        memcpy(&out[used + n_tail], head, n_head)
        if size:
            memcpy(&out[used + n_tail + n_head], &blob[bounds[i]], size)
        used += n_tail + length
        out[used - 1] = 0
        count += 1
    if count:
        frames.append((room[:used].tobytes(), count))
    return frames


# --- Windows ------------------------------------------------------------------------------------------------

cdef struct Tier:
    int64_t low_at, high_at, head_at  # bytes from the row's start
    int64_t bucket_ms, high_width  # width 0: there is no high part
    uint32_t ring, ratio  # how many buckets of the tier before make one; 0: no whole number


cdef class WindowPlan:
    """Where the windows of a row lie.

    ``tiers`` has a row for each tier: offset of the low parts, of the high parts and of the head, milliseconds
    of a bucket, bytes of a high part (0, 1 or 2), buckets of the ring.
    """

    cdef Tier tiers[MAX_TIERS]
    cdef int n_tiers, n_metrics
    cdef Py_ssize_t size

    def __cinit__(self, const int64_t[:, ::1] tiers not None, int n_metrics, Py_ssize_t size):
        cdef int t
        cdef int64_t cells
        if tiers.shape[0] > MAX_TIERS or not 0 < n_metrics <= MAX_METRICS or tiers.shape[1] != 6:
            raise ValueError(f"at most {MAX_TIERS} tiers of at most {MAX_METRICS} metrics")
        self.n_tiers, self.n_metrics, self.size = <int> tiers.shape[0], n_metrics, size
        for t in range(self.n_tiers):
            self.tiers[t] = Tier(tiers[t, 0], tiers[t, 1], tiers[t, 2], tiers[t, 3], tiers[t, 4],
                                 <uint32_t> tiers[t, 5], 0)
            cells = tiers[t, 5] * n_metrics
            if (
                tiers[t, 3] < 1 or tiers[t, 5] < 1 or not 0 <= tiers[t, 4] <= 2
                or not 0 <= tiers[t, 0] <= size - cells * 2
                or not 0 <= tiers[t, 1] <= size - cells * tiers[t, 4]
                or not 0 <= tiers[t, 2] <= size - 4
                or (tiers[t, 0] | (tiers[t, 1] if tiers[t, 4] == 2 else 0) | size) & 1
            ):
                raise ValueError("a tier lies inside a row, its 16-bit numbers at even places")
            if t and tiers[t, 3] % tiers[t - 1, 3] == 0 and tiers[t, 3] // tiers[t - 1, 3] < 1 << 31:
                self.tiers[t].ratio = <uint32_t> (tiers[t, 3] // tiers[t - 1, 3])

    cdef int _fits(self, _Bytes data) except -1:
        if data.size != self.size:
            raise ValueError(f"rows of {self.size} bytes are wanted, not of {data.size}")
        if (<size_t> data.start | <size_t> data.step) & 1:
            raise ValueError("rows lie at odd addresses")
        return 0

    cdef inline void _add(self, char *row, int64_t ts, int metric, uint64_t amount) noexcept:
        cdef int t
        cdef Tier *tier
        cdef uint32_t bucket = 0, low, high
        cdef int32_t head
        cdef uint64_t total
        cdef Py_ssize_t cell
        for t in range(self.n_tiers):
            tier = &self.tiers[t]
            # The quotient of 32-bit numbers is several times faster.
            bucket = bucket // tier.ratio if tier.ratio else <uint32_t> (ts // tier.bucket_ms)
            memcpy(&head, row + tier.head_at, 4)
            if <int32_t> bucket > head:
                self._advance(row, tier, head, <int32_t> bucket)
            elif <int64_t> bucket <= <int64_t> head - tier.ring:
                continue
            cell = <Py_ssize_t> (bucket % tier.ring) * self.n_metrics + metric
            low = (<uint16_t *> (row + tier.low_at))[cell]
            if tier.high_width == 0:
                total = low + amount
                (<uint16_t *> (row + tier.low_at))[cell] = <uint16_t> min(total, 0xFFFF)
            elif tier.high_width == 1:
                high = (<uint8_t *> (row + tier.high_at))[cell]
                total = min((<uint64_t> high << 16 | low) + amount, 0xFFFFFF)
                (<uint16_t *> (row + tier.low_at))[cell] = <uint16_t> total
                (<uint8_t *> (row + tier.high_at))[cell] = <uint8_t> (total >> 16)
            else:
                high = (<uint16_t *> (row + tier.high_at))[cell]
                total = min((<uint64_t> high << 16 | low) + amount, 0xFFFFFFFFULL)
                (<uint16_t *> (row + tier.low_at))[cell] = <uint16_t> total
                (<uint16_t *> (row + tier.high_at))[cell] = <uint16_t> (total >> 16)

    cdef void _advance(self, char *row, Tier *tier, int32_t head, int32_t bucket) noexcept:
        """Move the head to ``bucket`` and zero the slots passed."""
        cdef Py_ssize_t m = self.n_metrics
        cdef uint32_t slot = <uint32_t> bucket % tier.ring
        cdef int64_t left = min(<int64_t> bucket - head, <int64_t> tier.ring)
        while left > 0:  # from the new head back
            memset(row + tier.low_at + slot * m * 2, 0, m * 2)
            memset(row + tier.high_at + slot * m * tier.high_width, 0, m * tier.high_width)
            slot = (slot if slot else tier.ring) - 1
            left -= 1
        memcpy(row + tier.head_at, &bucket, 4)

    def add(self, data, const int64_t[::1] rows not None, const int64_t[::1] ts not None,
            const int64_t[::1] metric not None, const int64_t[::1] amount not None):
        cdef _Bytes to = _Bytes(data, True)
        cdef Py_ssize_t i, n = rows.shape[0]
        cdef int t
        cdef int64_t latest = INT64_MAX
        self._fits(to)
        _same_length(n, ts.shape[0], metric.shape[0], amount.shape[0])
        for t in range(self.n_tiers):
            latest = min(latest, self.tiers[t].bucket_ms * <int64_t> 0x7FFFFFFF - 1)
        _check_facts(to.n, self.n_metrics, latest, rows, ts, metric, amount)
        for i in range(n):
            if metric[i] >= 0:
                self._add(to.start + rows[i] * to.step, ts[i], <int> metric[i], <uint64_t> amount[i])

    cdef inline void _sum(self, char *row, int t, int64_t now_bucket, int64_t buckets,
                          Py_ssize_t first, Py_ssize_t n, uint32_t *low, uint32_t *high) noexcept:
        """Add up ``n`` metrics from ``first`` on over the buckets in ``(now_bucket - buckets, now_bucket]``."""
        cdef Tier *tier = &self.tiers[t]
        cdef int32_t head
        cdef int64_t newest, oldest
        cdef uint32_t slot
        cdef Py_ssize_t j, at
        cdef uint16_t *cells
        cdef uint8_t *bytes_
        memset(low, 0, n * 4)
        memset(high, 0, n * 4)
        memcpy(&head, row + tier.head_at, 4)
        newest = min(now_bucket, <int64_t> head)
        oldest = max(max(now_bucket - buckets, <int64_t> head - tier.ring) + 1, <int64_t> 0)
        if newest < oldest:
            return
        slot = <uint32_t> newest % tier.ring
        while newest >= oldest:
            at = slot * self.n_metrics + first
            cells = <uint16_t *> (row + tier.low_at) + at
            for j in range(n):
                low[j] += cells[j]
            if tier.high_width == 1:
                bytes_ = <uint8_t *> (row + tier.high_at) + at
                for j in range(n):
                    high[j] += bytes_[j]
            elif tier.high_width == 2:
                cells = <uint16_t *> (row + tier.high_at) + at
                for j in range(n):
                    high[j] += cells[j]
            slot = (slot if slot else tier.ring) - 1
            newest -= 1

    def read(self, data, const int64_t[:, ::1] asked not None, int64_t now, rows=None):
        """Return the windows ``asked``, (tier, buckets) each, of every metric."""
        cdef _Bytes source = _Bytes(data, False)
        cdef const int64_t[::1] where = _chosen(rows, source.n)
        cdef Py_ssize_t i, w, j, m = self.n_metrics, n = source.n if where is None else where.shape[0]
        cdef int64_t row, now_bucket
        cdef uint32_t low[MAX_METRICS]
        cdef uint32_t high[MAX_METRICS]
        self._fits(source)
        out = np.empty((n, asked.shape[0], m), np.float32)
        cdef float[:, :, ::1] o = out
        for w in range(asked.shape[0]):
            if not 0 <= asked[w, 0] < self.n_tiers:
                raise IndexError(f"tier {asked[w, 0]} of {self.n_tiers}")
        for i in range(n):
            row = i if where is None else where[i]
            for w in range(asked.shape[0]):
                if row < 0:
                    for j in range(m):
                        o[i, w, j] = 0
                    continue
                now_bucket = now // self.tiers[asked[w, 0]].bucket_ms if now >= 0 else -1
                self._sum(source.start + row * source.step, <int> asked[w, 0], now_bucket, asked[w, 1],
                          0, m, low, high)
                for j in range(m):
                    o[i, w, j] = <float> (<uint64_t> low[j] + (<uint64_t> high[j] << 16))
        return out

    def read_one(self, data, int tier, Py_ssize_t metric, int64_t buckets, int64_t now, rows=None):
        """Return the window of the newest ``buckets`` of a tier, of one metric."""
        cdef _Bytes source = _Bytes(data, False)
        cdef const int64_t[::1] where = _chosen(rows, source.n)
        cdef Py_ssize_t i, n = source.n if where is None else where.shape[0]
        cdef int64_t row, now_bucket
        cdef uint32_t low = 0, high = 0
        self._fits(source)
        if not (0 <= tier < self.n_tiers and 0 <= metric < self.n_metrics):
            raise IndexError(f"tier {tier} of {self.n_tiers}, metric {metric} of {self.n_metrics}")
        out = np.zeros(n, np.float32)
        cdef float[::1] o = out
        now_bucket = now // self.tiers[tier].bucket_ms if now >= 0 else -1
        for i in range(n):
            row = i if where is None else where[i]
            if row >= 0:
                self._sum(source.start + row * source.step, tier, now_bucket, buckets, metric, 1, &low, &high)
                o[i] = <float> (<uint64_t> low + (<uint64_t> high << 16))
        return out


cdef _chosen(rows, Py_ssize_t n):
    """Return ``rows`` as int64, checked: from -1, nothing, to ``n - 1``."""
    if rows is None:
        return None
    array = np.ascontiguousarray(rows, np.int64)
    cdef const int64_t[::1] where = array
    cdef Py_ssize_t i
    for i in range(where.shape[0]):
        if where[i] < -1 or where[i] >= n:
            raise IndexError(f"row {where[i]} of {n}")
    return array


cdef int _check_facts(Py_ssize_t n_rows, int n_metrics, int64_t latest, const int64_t[::1] rows,
                      const int64_t[::1] ts, const int64_t[::1] metric, const int64_t[::1] amount) except -1:
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if metric[i] < 0:
            continue
        if metric[i] >= n_metrics:
            raise IndexError(f"metric {metric[i]} of {n_metrics}")
        if rows[i] < 0 or rows[i] >= n_rows:
            raise IndexError(f"row {rows[i]} of {n_rows}")
        if ts[i] < 0 or ts[i] > latest:
            raise ValueError(f"ts {ts[i]} is not a time between 0 and {latest} ms")
        if amount[i] < 0:
            raise ValueError(f"amount {amount[i]}: counts only grow")
    return 0


# --- Ids last seen ------------------------------------------------------------------------------------------

cdef struct Seen:
    uint64_t id
    int64_t at  # + 1; 0 is an empty slot


cdef class LastSeen:
    """When each 64-bit id was last seen; what is longer ago than the window is forgotten.

    A new id takes the place of the first old one it meets on its way, so that the table stays as it is while
    ids come and go at one rate. It is rebuilt when it gets too full (or has become too empty), at a size that
    what is left fills to half at most. Homes keep their order then, so memory is walked through.
    """

    cdef Seen *slots
    cdef size_t size, count, made
    cdef int shift
    cdef int64_t window_ms

    def __cinit__(self, int64_t window_ms):
        self.window_ms, self.size, self.shift = window_ms, MIN_SLOTS, 64 - 6
        self.slots = <Seen *> calloc(self.size, sizeof(Seen))
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    @property
    def nbytes(self):
        return self.size * sizeof(Seen)

    cdef int _tidy(self, int64_t oldest) except -1:
        """Rebuild, unless the table is neither too full nor too empty."""
        cdef Seen *old = self.slots
        cdef size_t i, at, n = self.size, left = 0, size = MIN_SLOTS
        cdef int shift = 64 - 6
        self.made = 0
        for i in range(n):
            left += old[i].at > oldest
        while size < left * 2:
            size, shift = size * 2, shift - 1
        if self.count * 4 <= n * 3 and size * 4 > n:
            return 0
        cdef Seen *new = <Seen *> calloc(size, sizeof(Seen))
        if new == NULL:
            raise MemoryError()
        for i in range(n):
            if old[i].at > oldest:
                at = <size_t> ((old[i].id * MIX) >> shift)
                while new[at].at:
                    at = (at + 1) & (size - 1)
                new[at] = old[i]
        self.slots, self.size, self.shift, self.count = new, size, shift, left
        free(old)
        return 0

    def fresh(self, const uint64_t[::1] ids not None, const int64_t[::1] times not None):
        cdef Py_ssize_t i, n = ids.shape[0]
        cdef size_t at, gone
        cdef int64_t oldest  # what is stored (+ 1) up to it is out of the window
        _same_length(n, times.shape[0], n, n)
        for i in range(n):
            if times[i] < 0:
                raise ValueError(f"stream time {times[i]} is negative")
        out = np.empty(n, np.bool_)
        cdef uint8_t[::1] new = out.view(np.uint8)
        for i in range(n):
            oldest = max(times[i] - self.window_ms, <int64_t> 0)
            at, gone = <size_t> ((ids[i] * MIX) >> self.shift), self.size
            while self.slots[at].at and self.slots[at].id != ids[i]:
                if gone == self.size and self.slots[at].at <= oldest:
                    gone = at
                at = (at + 1) & (self.size - 1)
            new[i] = self.slots[at].at <= oldest
            if not self.slots[at].at:
                if gone < self.size:
                    at = gone
                else:
                    self.count += 1
                self.made += 1
            self.slots[at] = Seen(ids[i], times[i] + 1)
            if self.count * 4 > self.size * 3 or self.made > self.size * 2:
                self._tidy(oldest)
        return out
