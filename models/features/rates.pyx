# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How often an item is clicked, and how long viewed, by the little that is known of new and rare items; compiled.

It is given against the item's category. Two rates: of clicks among showings; and of clicks among clicks and skips, which say that the slot was looked
at, so that it does not matter how far down a list the item was. Both are smoothed from the general to the
special: all candidates, their category, the item. As logarithms they add up to the item's rate, and linear
models can add a taste to them. How long views of it take is smoothed in the same way: a click says that
somebody wanted to see the item, its view says how much.
"""

from headrace.models.features.columns cimport BY_CATEGORY, Columns
from headrace.models.features.relative cimport summed

import numpy as np

from headrace.models.features.spec import SPEC

cdef Py_ssize_t CTR_LIFT = SPEC.index("item_ctr_lift_24h")
cdef Py_ssize_t SEEN_LIFT = SPEC.index("item_seen_lift_24h")
cdef Py_ssize_t CATEGORY_CTR = SPEC.index("item_category_ctr_24h")
cdef Py_ssize_t CATEGORY_SEEN = SPEC.index("item_category_seen_24h")
cdef Py_ssize_t DWELL_LIFT = SPEC.index("item_dwell_lift_24h")
cdef Py_ssize_t CATEGORY_DWELL = SPEC.index("item_category_dwell_24h")

#: The rate of all candidates is believed as if it had been seen so often before, and with so many clicks.
cdef float BEFORE = 20, CLICKS = 1
#: Showings, and clicks or skips, of a category or an item that count as much as what was believed before.
cdef float SHOWN_WEIGHT = 20, SEEN_WEIGHT = 5
#: Clicks of a category or an item that count as much, for the mean time of a view.
cdef float VIEWS_WEIGHT = 4


cdef int fill_lifts_of_items(Columns m, const float *clicks, const float *shown, const float *skips) except -1:
    """Fill the log of each item's rates against its category's, and of these against all candidates'.

    ``clicks``, ``shown``, ``skips`` are of the last day, ``(n,)``.
    """
    cdef float *of = m.numbers + 2 * m.n
    cdef Py_ssize_t i
    for i in range(m.n):
        of[i] = max(shown[i], clicks[i])  # items are clicked outside of lists, too
    _lifts(m, clicks, of, SHOWN_WEIGHT, _rate(m, clicks, of), m.log_of(CATEGORY_CTR, BY_CATEGORY), m.log_of(CTR_LIFT))
    for i in range(m.n):
        of[i] = clicks[i] + skips[i]
    _lifts(m, clicks, of, SEEN_WEIGHT, _rate(m, clicks, of), m.log_of(CATEGORY_SEEN, BY_CATEGORY), m.log_of(SEEN_LIFT))
    return 0


cdef int fill_lifts_of_views(Columns m, const float *clicks, const float *seconds) except -1:
    """Fill the log of the mean time of an item's views against its category's, and of this against all.

    0 where no candidate was viewed; else ``m.usual_view`` is set, too. ``clicks`` and the ``seconds`` of their views are of the last day, ``(n,)``.
    """
    cdef Py_ssize_t i
    cdef float every
    for i in range(m.n):
        if seconds[i] != 0:
            break
    else:
        return 0
    every = summed(seconds, m.n) / max(summed(clicks, m.n), 1)
    m.usual_view = np.log1p(np.full(1, every, np.float32))[0]
    _lifts(m, seconds, clicks, VIEWS_WEIGHT, every, m.log_of(CATEGORY_DWELL, BY_CATEGORY), m.log_of(DWELL_LIFT))
    return 0


cdef float _rate(Columns m, const float *clicks, const float *of) noexcept:
    """Return the rate of all candidates."""
    return (summed(clicks, m.n) + CLICKS) / (summed(of, m.n) + BEFORE)


cdef void _lifts(
    Columns m, const float *clicks, const float *of, float weight, float every, float *theirs, float *own
) noexcept:
    """Write what there is for each of ``of``: in each category against all, of each item against its category.

    ``every`` is that of all candidates.
    """
    cdef double *clicked = m.sums
    cdef double *seen = m.sums + m.groups
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
