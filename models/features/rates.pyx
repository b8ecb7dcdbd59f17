# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rates of new and rare items, compiled: against its category.

Two rates: of clicks among showings; and of clicks among clicks and skips, which say that the slot was looked
at, so that it does not matter how far down a list the item was. Both are smoothed from the general to the
special: all candidates, their category, the item. As logarithms they add up to the item's rate, and linear
models can add a taste to them.
"""

from headrace.models.features.columns cimport BY_CATEGORY, Columns
from headrace.models.features.relative cimport summed

from headrace.models.features.spec import SPEC

cdef Py_ssize_t CTR_LIFT = SPEC.index("item_ctr_lift_24h")
cdef Py_ssize_t SEEN_LIFT = SPEC.index("item_seen_lift_24h")
cdef Py_ssize_t CATEGORY_CTR = SPEC.index("item_category_ctr_24h")
cdef Py_ssize_t CATEGORY_SEEN = SPEC.index("item_category_seen_24h")

#: The rate of all candidates is believed as if it had been seen so often before, and with so many clicks.
cdef float BEFORE = 20, CLICKS = 1
#: Showings, and clicks or skips, of a category or an item that count as much as what was believed before.
cdef float SHOWN_WEIGHT = 20, SEEN_WEIGHT = 5


cdef int fill_lifts_of_items(Columns m, const float *clicks, const float *shown, const float *skips) except -1:
    """Fill the log of each item's rates against its category's, and of these against all candidates'.

    ``clicks``, ``shown``, ``skips`` are of the last day, ``(n,)``.
    """
    cdef float *of = m.numbers + 2 * m.n
    cdef Py_ssize_t i
    for i in range(m.n):
        of[i] = max(shown[i], clicks[i])  # items are clicked outside of lists, too
    _lifts(m, clicks, of, SHOWN_WEIGHT, m.log_of(CATEGORY_CTR, BY_CATEGORY), m.log_of(CTR_LIFT))
    for i in range(m.n):
        of[i] = clicks[i] + skips[i]
    _lifts(m, clicks, of, SEEN_WEIGHT, m.log_of(CATEGORY_SEEN, BY_CATEGORY), m.log_of(SEEN_LIFT))
    return 0


cdef void _lifts(Columns m, const float *clicks, const float *of, float weight, float *theirs, float *own) noexcept:
    """Write the rate of each category against that of all, and of each item against its category's."""
    cdef double *clicked = m.sums
    cdef double *seen = m.sums + m.groups
    cdef float every = (summed(clicks, m.n) + CLICKS) / (summed(of, m.n) + BEFORE)
    cdef float before = weight * every, rate
    cdef Py_ssize_t i, g
    for g in range(m.groups):
        clicked[g] = seen[g] = 0
    for i in range(m.n):
        clicked[m.group[i]] += clicks[i]
        seen[m.group[i]] += of[i]
    for g in range(m.groups):
        theirs[g] = <float> ((clicked[g] + before) / (seen[g] + weight) / every) if m.keys[g] else 1
    for i in range(m.n):
        rate = (clicks[i] + before * theirs[m.group[i]]) / (of[i] + weight)
        own[i] = rate / (every * theirs[m.group[i]])
