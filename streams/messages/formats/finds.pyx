# cython: language_level=3
"""Finds values in decoded JSON and puts events of ours together from them, compiled.

A *find* returns a value of a document, or None when there is none, or null. Each wraps another one, or walks
a path. ``fields.py`` puts them together from what a mapping file says.
"""

from cpython.dict cimport PyDict_GetItemWithError
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t

from headrace.streams.errors import RejectedError
from headrace.streams.messages.formats.translated import IgnoredError

cdef object MISSING = object()
cdef int64_t NO_TIME = -(1 << 62)
cdef enum:
    MOST_DIGITS = 18  # of a number in a text

#: The time of the record itself, as the default of a rule.
RECORD_TIME = object()


cdef class Find:
    """Returns None."""

    cdef object find(self, object doc):
        return None

    def __call__(self, doc):
        return self.find(doc)


cdef class Pick:
    """A step to every element whose member ``name`` is the text ``value``."""

    cdef str name, value

    def __init__(self, str name not None, str value not None):
        self.name, self.value = name, value


cdef object _member(dict doc, object name):
    cdef PyObject *found = PyDict_GetItemWithError(doc, name)
    return MISSING if found == NULL else <object> found


cdef object _walk(tuple steps, Py_ssize_t at, object doc):
    cdef Py_ssize_t i, n = len(steps)
    for i in range(at, n):
        step = steps[i]
        if type(step) is Pick:
            return _picked(<Pick> step, steps, i + 1, doc)
        if type(doc) is dict:
            doc = _member(<dict> doc, step)  # an index is no name of a member
            if doc is MISSING:
                return MISSING
        elif type(doc) is list and type(step) is int and -len(<list> doc) <= step < len(<list> doc):
            doc = (<list> doc)[step]
        else:
            return MISSING
    return doc


cdef object _picked(Pick step, tuple steps, Py_ssize_t at, object doc):
    """Return what the rest of the steps finds in the first element that has it."""
    elements = doc if type(doc) is list else list((<dict> doc).values()) if type(doc) is dict else ()
    for element in elements:
        if type(element) is dict:
            named = _member(<dict> element, step.name)
            if type(named) is str and <str> named == step.value:
                found = _walk(steps, at, element)
                if found is not MISSING:
                    return found
    return MISSING


cdef class Walk(Find):
    """Walks a path: its steps are names, indices, and ``Pick``."""

    cdef tuple steps

    def __init__(self, tuple steps not None):
        self.steps = steps

    cdef object find(self, object doc):
        found = _walk(self.steps, 0, doc)
        return None if found is MISSING else found


cdef class Call(Find):
    """What a function returns for the document."""

    cdef object function

    def __init__(self, function):
        self.function = function

    cdef object find(self, object doc):
        return self.function(doc)


cdef class First(Find):
    """The first value that one of several finds."""

    cdef tuple finds

    def __init__(self, finds):
        self.finds = tuple(finds)

    cdef object find(self, object doc):
        for one in self.finds:
            found = (<Find?> one).find(doc)
            if found is not None:
                return found
        return None


cdef class Joined(Find):
    """What several finds have found, joined; None when one of them finds nothing."""

    cdef tuple finds
    cdef str separator
    cdef object convert

    def __init__(self, finds, str separator not None, convert):
        self.finds, self.separator, self.convert = tuple(finds), separator, convert

    cdef object find(self, object doc):
        cdef list parts = []
        for one in self.finds:
            value = (<Find?> one).find(doc)
            if value is None:
                return None
            parts.append(value if type(value) is str else self.convert(value))
        return self.separator.join(parts)


cdef class Mapped(Find):
    """The value that a table has for what is found.

    ``otherwise`` is called with a value that it has not, as it is written in the table.
    """

    cdef Find inner
    cdef dict table
    cdef object otherwise

    def __init__(self, Find inner not None, dict table not None, otherwise):
        self.inner, self.table, self.otherwise = inner, table, otherwise

    cdef object find(self, object doc):
        value = self.inner.find(doc)
        if value is None:
            return None
        name = value if type(value) is str else str(value).lower() if type(value) is bool else str(value)
        found = _member(self.table, name)
        return self.otherwise(name) if found is MISSING else found


cdef class Converted(Find):
    """What a function makes of the value that is found; a value of the type ``is_right`` stays as it is."""

    cdef Find inner
    cdef object convert, is_right

    def __init__(self, Find inner not None, convert, is_right=None):
        self.inner, self.convert, self.is_right = inner, convert, is_right

    cdef object find(self, object doc):
        value = self.inner.find(doc)
        return value if value is None or type(value) is self.is_right else self.convert(value)


cdef class Number(Find):
    """A whole number that is found, also in digits, times ``times`` / ``by``; a function is for others."""

    cdef Find inner
    cdef object convert
    cdef int64_t times, by

    def __init__(self, Find inner not None, int64_t times, int64_t by, convert):
        self.inner, self.times, self.by, self.convert = inner, times, by, convert

    cdef object find(self, object doc):
        cdef int64_t number
        value = self.inner.find(doc)
        if type(value) is str and 0 < len(<str> value) <= MOST_DIGITS and (<str> value).isascii():
            digits = (<str> value).encode("ascii")
            number = _whole(digits, len(<bytes> digits))
            if number >= 0:
                value = number
        if type(value) is int:
            return value if self.times == self.by else value * self.times // self.by
        return None if value is None else self.convert(value)


cdef int64_t _whole(const uint8_t *text, Py_ssize_t n) noexcept nogil:
    """Return a number of at most 18 digits, or a negative one."""
    cdef int64_t out = 0
    cdef Py_ssize_t i
    for i in range(n):
        if not c"0" <= text[i] <= c"9":
            return -1
        out = out * 10 + text[i] - c"0"
    return out


cdef class Time(Find):
    """The milliseconds of a time as ISO 8601 writes it most often; a function is for all others."""

    cdef Find inner
    cdef object convert

    def __init__(self, Find inner not None, convert):
        self.inner, self.convert = inner, convert

    cdef object find(self, object doc):
        cdef int64_t ms
        value = self.inner.find(doc)
        if value is None:
            return None
        if type(value) is str and (<str> value).isascii():
            ms = usual_time((<str> value).encode("ascii"))
            if ms != NO_TIME:
                return ms
        return self.convert(value)


cdef inline int _digits(const uint8_t *text, int n) noexcept nogil:
    """Return a number of ``n`` digits, or a negative one."""
    cdef int i, out = 0
    for i in range(n):
        if not c"0" <= text[i] <= c"9":
            return -1_000_000
        out = out * 10 + text[i] - c"0"
    return out


cdef inline int64_t _day(int64_t year, int month, int day) noexcept nogil:
    """Return the number of a day since 1970 in the Gregorian calendar; the year is not negative."""
    cdef int64_t y = year - (month <= 2)
    cdef int64_t era = y // 400
    cdef int64_t of_era = y - era * 400
    cdef int64_t of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


cdef int64_t usual_time(bytes written):
    """Return the milliseconds of ``2026-01-31T12:00:00``, perhaps with 1 to 6 digits of a fraction and Z."""
    cdef const uint8_t *t = written
    cdef Py_ssize_t n = len(written)
    cdef int year, month, day, hour, minute, second, micro = 0, digits = 0
    if n and t[n - 1] == c"Z":
        n -= 1
    if n < 19 or n > 26 or n == 20 or t[4] != c"-" or t[7] != c"-" or t[13] != c":" or t[16] != c":":
        return NO_TIME
    if t[10] != c"T" and t[10] != c" ":
        return NO_TIME
    year, month, day = _digits(t, 4), _digits(t + 5, 2), _digits(t + 8, 2)
    hour, minute, second = _digits(t + 11, 2), _digits(t + 14, 2), _digits(t + 17, 2)
    # The 29th and later are left to the calendar of the function, but for months that have them.
    if not (1970 <= year and 1 <= month <= 12 and 1 <= day <= 31):
        return NO_TIME
    if day > 28 and (month == 2 or (day == 31 and month in (4, 6, 9, 11))):
        return NO_TIME
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return NO_TIME
    if n > 19:
        if t[19] != c".":
            return NO_TIME
        digits = <int> (n - 20)
        micro = _digits(t + 20, digits)
        if micro < 0:
            return NO_TIME
        for _ in range(6 - digits):
            micro *= 10
    return ((_day(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + (micro + 500) // 1000


cdef class Rule:
    """How a field of ours gets its value.

    ``field`` is its name for messages, ``name`` that in the object that it is in. ``default`` is the value
    when there is none (None: there is no default).
    """

    cdef readonly str field, name
    cdef readonly Find value
    cdef readonly object default
    cdef bint required

    def __init__(self, str field not None, Find value not None, default=None, *, bint required=False):
        self.field, self.name = field, field.rpartition(".")[2]
        self.value, self.default, self.required = value, default, required

    cdef int put(self, dict out, object doc, object timestamp) except -1:
        value = self.value.find(doc)
        if value is None:
            value = self.default
            if value is None:
                if self.required:
                    raise RejectedError("unmapped", self.field, "there is no value at its path")
                return 0
            if value is RECORD_TIME:
                value = timestamp
        out[self.name] = value
        return 0


cdef class Rules:
    """Makes events of ours from documents.

    Parameters
    ----------
    only, ignore
        Pairs of a find and a set: a document without such a value, or with one, is ignored.
    fields
        Rules of an event, that of ``type`` first: an event that is ignored needs no other field.
    context
        Rules of its context.
    """

    cdef list only, ignore, fields, context

    def __init__(self, list only not None, list ignore not None, list fields not None, list context not None):
        self.only, self.ignore, self.fields, self.context = only, ignore, fields, context

    def event(self, doc, timestamp):
        """Return the event of a document."""
        cdef Rule rule = None
        cdef dict out = {}, context
        for find, values in self.only:
            if _name((<Find?> find).find(doc)) not in values:
                raise IgnoredError
        for find, values in self.ignore:
            if _name((<Find?> find).find(doc)) in values:
                raise IgnoredError
        try:
            for one in self.fields:
                rule = <Rule?> one
                rule.put(out, doc, timestamp)
            if self.context:
                context = {}
                for one in self.context:
                    rule = <Rule?> one
                    rule.put(context, doc, timestamp)
                if context:
                    out["context"] = context
        except ValueError as exc:
            raise RejectedError("unmapped", rule.field, str(exc)) from exc
        return out


cdef object _name(object value):
    """Return a value as it may be in a list of ``[only]`` or ``[ignore]``."""
    return value if type(value) is str or type(value) is int or type(value) is bool else None
