# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Keys of the content features of many items, compiled: what ``content_features`` says of each."""

from cpython.unicode cimport (
    PyUnicode_AsUTF8AndSize,
    PyUnicode_DATA,
    PyUnicode_GET_LENGTH,
    PyUnicode_KIND,
    PyUnicode_READ,
    Py_UNICODE_ISALNUM,
)
from libc.math cimport log2
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy

import numpy as np

from headrace.streams.messages.siphash cimport siphash13

#: Kinds, as in ``directions.KINDS``.
cdef enum:
    CATEGORY, CREATOR, TAG, WORD, DURATION

#: A word of a title has at least so many letters.
DEF LEAST = 3


cdef struct Text:
    const char *at
    Py_ssize_t size


cdef int _order(const void *a, const void *b) noexcept nogil:
    """Order texts as Python orders str: by code points, which is the order of their UTF-8 bytes."""
    cdef const Text *one = <const Text *> a
    cdef const Text *other = <const Text *> b
    cdef int first = memcmp(one.at, other.at, min(one.size, other.size))
    return first if first else (one.size > other.size) - (one.size < other.size)


cdef inline int _width(Py_UCS4 letter) noexcept nogil:
    """Return how many bytes a letter takes in UTF-8."""
    return 1 if letter < 0x80 else 2 if letter < 0x800 else 3 if letter < 0x10000 else 4


cdef class _Keys:
    """Feature keys that are appended, and the texts that are named next."""

    cdef uint64_t k0, k1
    cdef uint64_t *keys
    cdef uint8_t *kinds
    cdef Py_ssize_t used, room
    cdef Text *texts
    cdef Py_ssize_t n_texts, texts_room
    cdef char *named
    cdef Py_ssize_t named_room

    def __cinit__(self, uint64_t k0, uint64_t k1):
        self.k0, self.k1 = k0, k1

    def __dealloc__(self):
        free(self.keys)
        free(self.kinds)
        free(self.texts)
        free(self.named)

    cdef uint64_t add(self, int kind, const char *prefix, Py_ssize_t start, const char *text, Py_ssize_t size) except? 1:
        """Append the key of a feature, the hash of its kind and its text; return it."""
        cdef uint64_t key
        if start + size > self.named_room:
            self.named_room = 2 * (start + size)
            self.named = <char *> _more(self.named, self.named_room)
        if self.used == self.room:
            self.room = 2 * self.room + 1024
            self.keys = <uint64_t *> _more(self.keys, self.room * sizeof(uint64_t))
            self.kinds = <uint8_t *> _more(self.kinds, self.room)
        memcpy(self.named, prefix, start)
        memcpy(self.named + start, text, size)
        key = siphash13(<const uint8_t *> self.named, start + size, self.k0, self.k1) or 1
        self.keys[self.used], self.kinds[self.used] = key, kind
        self.used += 1
        return key

    cdef uint64_t one(self, int kind, const char *prefix, Py_ssize_t start, object text) except? 1:
        """Append the key of a text; return it, 0 for an empty one, which has none."""
        cdef Py_ssize_t size
        cdef const char *raw = PyUnicode_AsUTF8AndSize(text, &size)
        return self.add(kind, prefix, start, raw, size) if size else 0

    cdef int note(self, const char *at, Py_ssize_t size) except -1:
        """Note a text for ``add_noted``; it must stay where it is until then."""
        if self.n_texts == self.texts_room:
            self.texts_room = 2 * self.texts_room + 64
            self.texts = <Text *> _more(self.texts, self.texts_room * sizeof(Text))
        self.texts[self.n_texts].at, self.texts[self.n_texts].size = at, size
        self.n_texts += 1
        return 0

    cdef int add_noted(self, int kind, const char *prefix, Py_ssize_t start) except -1:
        """Append the keys of the texts that were noted, each once, in their order."""
        cdef Py_ssize_t i, n = self.n_texts
        self.n_texts = 0
        qsort(self.texts, n, sizeof(Text), &_order)
        for i in range(n):
            if i == 0 or _order(&self.texts[i - 1], &self.texts[i]):
                self.add(kind, prefix, start, self.texts[i].at, self.texts[i].size)
        return 0

    cdef int tags(self, list tags) except -1:
        cdef Py_ssize_t size
        cdef const char *raw
        for tag in tags:
            raw = PyUnicode_AsUTF8AndSize(tag, &size)
            if size:
                self.note(raw, size)
        return self.add_noted(TAG, b"tag:", 4)

    cdef int words(self, str title) except -1:
        """Append the words of a title: runs of what ``\\w`` matches."""
        cdef str text = title.lower()
        cdef Py_ssize_t size, i, n = PyUnicode_GET_LENGTH(text), letters = 0, at = 0, begin = 0
        cdef const char *raw = PyUnicode_AsUTF8AndSize(text, &size)
        cdef int kind = PyUnicode_KIND(text)
        cdef void *data = PyUnicode_DATA(text)
        cdef Py_UCS4 letter
        for i in range(n):
            letter = PyUnicode_READ(kind, data, i)
            if Py_UNICODE_ISALNUM(letter) or letter == 0x5F:
                if letters == 0:
                    begin = at
                letters += 1
            else:
                if letters >= LEAST:
                    self.note(raw + begin, at - begin)
                letters = 0
            at += _width(letter)
        if letters >= LEAST:
            self.note(raw + begin, at - begin)
        return self.add_noted(WORD, b"word:", 5)


cdef void *_more(void *old, size_t size) except NULL:
    cdef void *new = realloc(old, size)
    if new == NULL:
        raise MemoryError
    return new


def keys_of_items(list items not None, uint64_t k0, uint64_t k1):
    cdef Py_ssize_t i, n = len(items), size
    cdef _Keys found = _Keys(k0, k1)
    cdef bytes duration
    bounds = np.zeros(n + 1, np.int64)
    categories, creators = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    cdef long long[::1] ends = bounds
    cdef uint64_t[::1] category = categories
    cdef uint64_t[::1] creator = creators
    for i in range(n):
        item = items[i]
        category[i] = found.one(CATEGORY, b"category:", 9, item.category)
        creator[i] = found.one(CREATOR, b"creator:", 8, item.creator_id)
        tags = item.tags
        if tags:
            found.tags(tags)
        title = item.title
        if title:
            found.words(title)
        length = item.duration_ms
        if length:
            duration = b"%d" % int(4 * log2(1 + <double> length / 1000))
            found.add(DURATION, b"duration:", 9, duration, len(duration))
        ends[i + 1] = found.used
    size = found.used
    keys, kinds = np.empty(size, np.uint64), np.empty(size, np.uint8)
    cdef uint64_t[::1] keys_to = keys
    cdef uint8_t[::1] kinds_to = kinds
    if size:
        memcpy(&keys_to[0], found.keys, size * sizeof(uint64_t))
        memcpy(&kinds_to[0], found.kinds, size)
    return keys, kinds, bounds, categories, creators
