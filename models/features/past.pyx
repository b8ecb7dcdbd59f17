# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What a user clicked lately, and was shown and did not click, read from rows; compiled."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from headrace.models.features.columns cimport rows_like
from headrace.models.state.key_sets cimport KeyTable, empty_table, first_place, place_of
from headrace.models.state.row_access cimport field_at
from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state

cdef enum:
    BITS = 6  # of a table of the clicks
    SLOTS = 64
    FEW = 32  # clicks at most
    MOST = 256  # items shown at most

_USER, _SHOWN = user_state.ROW, shown_state.ROW
cdef int64_t RECENT = user_state.RECENT, PLACES = shown_state.SHOWN
if RECENT > FEW or PLACES > MOST:
    raise ImportError(f"a row has more than {FEW} clicks, or more than {MOST} items shown")

cdef ptrdiff_t AT_N_CLICKS = field_at(_USER, "n_clicks", "<i8")
cdef ptrdiff_t AT_RECENT = field_at(_USER, "recent", "<u8", (RECENT,))
cdef ptrdiff_t AT_RECENT_TS = field_at(_USER, "recent_ts", "<i8", (RECENT,))
cdef ptrdiff_t AT_COUNT = field_at(_SHOWN, "count", "<u4")
cdef ptrdiff_t AT_ITEMS = field_at(_SHOWN, "items", "<u8", (PLACES,))
cdef ptrdiff_t AT_TIMES = field_at(_SHOWN, "times", "<u4", (PLACES,))
cdef ptrdiff_t AT_COUNTS = field_at(_SHOWN, "counts", "u1", (PLACES,))


cdef struct Past:
    uint64_t clicked[FEW]  # the newest first
    int64_t kept[MOST]  # places of what was shown and not clicked, the newest first
    int64_t n, m  # how many these are
    int64_t hits, showings  # how many items shown are among the clicks, how often the others were shown


def past_of(user, shown, const float[:, ::1] click not None, const float[:, ::1] left not None, double before,
            double share):
    cdef RowBytes rows
    cdef Past past
    cdef const char *row = NULL
    cdef const uint8_t *counts
    cdef int64_t k, at, newer = 0, last = left.shape[1] - 1
    cdef float factor, against
    if click.shape[0] != 2 or click.shape[1] < RECENT or left.shape[0] != 2 or last < 0:
        raise ValueError(f"weights of {RECENT} clicks are wanted in two memories, and of what was shown before others")
    past.n = past.m = past.hits = past.showings = 0
    since = 0
    if user is not None:
        rows = rows_like(user, _USER, 1)
        since = _read_clicks(rows.start, &past)
    if shown is not None:
        rows = rows_like(shown, _SHOWN, 1)
        row = rows.start
        _read_shown(row, since, &past)
    items, weights = np.empty(past.n + past.m, np.uint64), np.empty((2, past.n + past.m), np.float32)
    cdef uint64_t[::1] item = items
    cdef float[:, ::1] weight = weights
    for k in range(past.n):
        item[k], weight[0, k], weight[1, k] = past.clicked[k], click[0, k], click[1, k]
    factor = <float> (-((past.hits + 1) / (past.hits + past.showings + before)) * share)
    for k in range(past.m):
        counts = <const uint8_t *> (row + AT_COUNTS)
        at = past.n + k
        item[at] = (<const uint64_t *> (row + AT_ITEMS))[past.kept[k]]
        against = <float> counts[past.kept[k]] * factor
        weight[0, at], weight[1, at] = against * left[0, min(newer, last)], against * left[1, min(newer, last)]
        newer += counts[past.kept[k]]
    return items, weights


cdef int64_t _read_clicks(const char *row, Past *past) noexcept:
    """Read the clicks; return the time (s) from which on all are among them."""
    cdef int64_t total = (<const int64_t *> (row + AT_N_CLICKS))[0], k
    past.n = max(min(total, RECENT), <int64_t> 0)
    for k in range(past.n):
        past.clicked[k] = (<const uint64_t *> (row + AT_RECENT))[(total - 1 - k) % RECENT]
    if total <= RECENT:
        return 0
    return (<const int64_t *> (row + AT_RECENT_TS))[total % RECENT] // 1000


cdef void _read_shown(const char *row, int64_t since, Past *past) noexcept:
    """Find what was shown, from a time on if there is one, and not clicked."""
    cdef const uint64_t *items = <const uint64_t *> (row + AT_ITEMS)
    cdef const uint32_t *times = <const uint32_t *> (row + AT_TIMES)
    cdef uint64_t keys[SLOTS]
    cdef int32_t places[SLOTS]
    cdef KeyTable table
    cdef int64_t k
    empty_table(&table, keys, places, BITS)
    for k in range(past.n):
        first_place(&table, past.clicked[k], k)
    for k in range(min(<int64_t> (<const uint32_t *> (row + AT_COUNT))[0], PLACES) - 1, -1, -1):
        if place_of(&table, items[k]) >= 0:
            past.hits += 1
        elif since == 0 or <int64_t> times[k] >= since:
            past.kept[past.m] = k
            past.m += 1
            past.showings += (<const uint8_t *> (row + AT_COUNTS))[k]
