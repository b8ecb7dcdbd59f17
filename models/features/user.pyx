# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Features of the user, compiled: windows, session, and the taste for each item's category and creator."""

from libc.math cimport fabsf
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from headrace.models.features.columns cimport BY_CATEGORY, ONE as THE_SAME, Columns, hashes, rows_like
from headrace.models.features.relative cimport summed
from headrace.models.state.key_sets cimport KeyTable, empty_table, first_place, place_of
from headrace.models.state.row_access cimport field_at
from headrace.streams.tables.row_bytes cimport RowBytes
from headrace.streams.window_sums cimport WindowSums

from headrace.models.features.spec import SPEC
from headrace.models.state import users as user_state
from headrace.models.state.users import METRICS, ROW, WINDOWS

cdef Py_ssize_t CLICKS_5M = SPEC.index("user_clicks_5m")
cdef Py_ssize_t CLICKS_1H = SPEC.index("user_clicks_1h")
cdef Py_ssize_t CLICKS_24H = SPEC.index("user_clicks_24h")
cdef Py_ssize_t CTR_24H = SPEC.index("user_ctr_24h")
cdef Py_ssize_t DWELL_MEAN_24H = SPEC.index("user_dwell_mean_24h")
cdef Py_ssize_t CLICKS_TOTAL = SPEC.index("user_clicks_total")
cdef Py_ssize_t SESSION_LEN = SPEC.index("user_session_len")
cdef Py_ssize_t IDLE_MIN = SPEC.index("user_idle_min")
cdef Py_ssize_t CATEGORY_AFFINITY = SPEC.index("category_affinity")
cdef Py_ssize_t CATEGORY_WEIGHT = SPEC.index("category_weight")
cdef Py_ssize_t CATEGORY_DWELL = SPEC.index("category_dwell")
cdef Py_ssize_t CATEGORY_VIEWS = SPEC.index("category_views")
cdef Py_ssize_t CATEGORY_PREFERRED = SPEC.index("category_preferred")
cdef Py_ssize_t CREATOR_AFFINITY = SPEC.index("creator_affinity")
cdef Py_ssize_t CREATOR_WEIGHT = SPEC.index("creator_weight")
cdef Py_ssize_t CREATOR_FOLLOWED = SPEC.index("creator_followed")
cdef Py_ssize_t CREATOR_SEEN = SPEC.index("creator_seen")
cdef Py_ssize_t SEEN_BEFORE = SPEC.index("seen_before")

cdef enum:
    BITS = 6  # of a table of the few keys in a row
    SLOTS = 64
    FEW = 32  # at most

cdef Py_ssize_t RECENT = user_state.RECENT, AFFINITIES = user_state.AFFINITIES
cdef Py_ssize_t PREFERRED = user_state.PREFERRED, FOLLOWED = user_state.FOLLOWED
if max(RECENT, AFFINITIES, FOLLOWED) > FEW:
    raise ImportError(f"a field of a user's row has more than {FEW} keys")

cdef WindowSums _windows = WINDOWS.sums_of(ROW)
cdef int T_5M, T_1H, T_24H
cdef int64_t N_5M, N_1H, N_24H  # their buckets
T_5M, N_5M = WINDOWS.asked("5m")
T_1H, N_1H = WINDOWS.asked("1h")
T_24H, N_24H = WINDOWS.asked("24h")
cdef Py_ssize_t METRIC_COUNT = len(METRICS)
cdef Py_ssize_t SHOWN = METRICS.index("shown"), CLICK = METRICS.index("click"), DWELL = METRICS.index("dwell_s")
cdef ptrdiff_t AT_TOTALS = field_at(ROW, "totals", "<u4", (METRIC_COUNT,))
cdef ptrdiff_t AT_SESSION_LEN = field_at(ROW, "session_len", "<i4")
cdef ptrdiff_t AT_N_CLICKS = field_at(ROW, "n_clicks", "<i8")
cdef ptrdiff_t AT_RECENT = field_at(ROW, "recent", "<u8", (RECENT,))
cdef ptrdiff_t AT_RECENT_TS = field_at(ROW, "recent_ts", "<i8", (RECENT,))
cdef ptrdiff_t AT_CATEGORY = field_at(ROW, "cat", "<u8", (AFFINITIES,))
cdef ptrdiff_t AT_CATEGORY_W = field_at(ROW, "cat_w", "<f4", (AFFINITIES,))
cdef ptrdiff_t AT_CATEGORY_DWELL = field_at(ROW, "cat_dwell", "<f4", (AFFINITIES,))
cdef ptrdiff_t AT_CATEGORY_VIEWS = field_at(ROW, "cat_views", "<f4", (AFFINITIES,))
cdef ptrdiff_t AT_CREATOR = field_at(ROW, "creator", "<u8", (AFFINITIES,))
cdef ptrdiff_t AT_CREATOR_W = field_at(ROW, "creator_w", "<f4", (AFFINITIES,))
cdef ptrdiff_t AT_PREFERRED = field_at(ROW, "preferred", "<u8", (PREFERRED,))
cdef ptrdiff_t AT_FOLLOWED = field_at(ROW, "followed", "<u8", (FOLLOWED,))

cdef double MS_OF_MINUTE = 60_000
#: In a product with float32 a constant is float32, too, as it is in numpy.
cdef float ONE = 1
#: The rate is smoothed towards one click in so many impressions.
cdef float IMPRESSIONS = 20
#: The mean time of a user's views is smoothed towards the usual one, with the weight of so many views.
cdef float VIEWS = 2


def fill_user(Columns m not None, user, ctx):
    cdef RowBytes rows = rows_like(user, ROW, 1)
    cdef const char *row = rows.start
    cdef int64_t now = ctx.now, n_clicks = (<const int64_t *> (row + AT_N_CLICKS))[0]
    cdef int64_t last
    cdef float shown, clicks, seconds
    _clicks(m, CLICKS_5M, row, T_5M, N_5M, now)
    _clicks(m, CLICKS_1H, row, T_1H, N_1H, now)
    clicks = _clicks(m, CLICKS_24H, row, T_24H, N_24H, now)
    _windows.sums(row, T_24H, _windows.bucket(T_24H, now), N_24H, SHOWN, 1, &shown)
    _windows.sums(row, T_24H, _windows.bucket(T_24H, now), N_24H, DWELL, 1, &seconds)
    m.set_all(CTR_24H, (clicks + ONE) / (max(shown, clicks) + IMPRESSIONS))
    m.log1p_of(DWELL_MEAN_24H, THE_SAME)[0] = seconds / (clicks + ONE)
    m.wide_log1p_of(CLICKS_TOTAL, THE_SAME)[0] = (<const uint32_t *> (row + AT_TOTALS))[CLICK]
    m.set_all(SESSION_LEN, <float> (<const int32_t *> (row + AT_SESSION_LEN))[0])
    if n_clicks > 0:
        last = (<const int64_t *> (row + AT_RECENT_TS))[(n_clicks - 1) % RECENT]
        m.wide_log1p_of(IDLE_MIN, THE_SAME)[0] = <double> max(now - last, 0) / MS_OF_MINUTE
    else:
        m.set_all(IDLE_MIN, -1)


cdef float _clicks(Columns m, Py_ssize_t column, const char *row, int tier, int64_t buckets, int64_t now) except? -1:
    """Return the clicks in a window; their log is a column."""
    cdef float *to = m.log1p_of(column, THE_SAME)
    _windows.sums(row, tier, _windows.bucket(tier, now), buckets, CLICK, 1, to)
    return to[0]


def fill_taste(Columns m not None, user, c):
    cdef RowBytes rows = rows_like(user, ROW, 1)
    cdef const char *row = rows.start
    cdef const uint64_t *preferred = <const uint64_t *> (row + AT_PREFERRED)
    cdef float *named = m.numbers
    cdef bint names = False
    cdef Py_ssize_t k, g
    cdef int64_t group
    _categories(m, <const uint64_t *> (row + AT_CATEGORY), <const float *> (row + AT_CATEGORY_W))
    _views(
        m, <const uint64_t *> (row + AT_CATEGORY), <const float *> (row + AT_CATEGORY_DWELL),
        <const float *> (row + AT_CATEGORY_VIEWS),
    )
    _creators(m, <const uint64_t *> (row + AT_CREATOR), <const float *> (row + AT_CREATOR_W), c.creator)
    for g in range(m.groups):
        named[g] = 0
    for k in range(PREFERRED):
        names = names or preferred[k] != 0
        group = m.group_of(preferred[k]) if preferred[k] else -1
        if group >= 0:
            named[group] = 1
    m.set_groups(CATEGORY_PREFERRED, named)
    _among(m, CREATOR_FOLLOWED, <const uint64_t *> (row + AT_FOLLOWED), FOLLOWED, c.creator)
    _among(m, SEEN_BEFORE, <const uint64_t *> (row + AT_RECENT), RECENT, c.items)
    _among(m, CREATOR_SEEN, <const uint64_t *> (row + AT_CREATOR), AFFINITIES, c.creator)
    return names


cdef bint _any(const float *weights) noexcept:
    cdef Py_ssize_t k
    for k in range(AFFINITIES):
        if weights[k] != 0:
            return True
    return False


cdef float _all_weight(const float *weights) noexcept:
    cdef float size[FEW]
    cdef Py_ssize_t k
    for k in range(AFFINITIES):
        size[k] = fabsf(weights[k])
    return summed(size, AFFINITIES)


cdef inline float _not_negative(float value) noexcept:
    return 0 if value <= 0 else value


cdef int _categories(Columns m, const uint64_t *slots, const float *weights) except -1:
    """Fill the weight of each category among a user's: as a share of all weight, and the log of it.

    The second one tells a user with many clicks from one with few; less than nothing counts as nothing there.
    """
    cdef float *found = m.numbers
    cdef float *positive
    cdef float total = _all_weight(weights)
    cdef Py_ssize_t k, g
    cdef int64_t group
    if not _any(weights):
        return 0
    positive = m.log1p_of(CATEGORY_WEIGHT, BY_CATEGORY)
    for g in range(m.groups):
        found[g] = 0
    for k in range(AFFINITIES - 1, -1, -1):  # of a key that is there twice, the first weight counts
        group = m.group_of(slots[k]) if slots[k] else -1
        if group >= 0:
            found[group] = weights[k]
    for g in range(m.groups):
        positive[g] = _not_negative(found[g])
        found[g] = found[g] / total
    m.set_groups(CATEGORY_AFFINITY, found)
    return 0


cdef int _views(Columns m, const uint64_t *slots, const float *dwell, const float *views) except -1:
    """Fill how many views a user has of each category, and how much longer than usual they are, in logs."""
    cdef float *longer = m.numbers
    cdef float *count = m.log1p_of(CATEGORY_VIEWS, BY_CATEGORY)
    cdef Py_ssize_t k, g
    cdef int64_t group
    for g in range(m.groups):
        longer[g] = count[g] = 0
    for k in range(AFFINITIES - 1, -1, -1):
        group = m.group_of(slots[k]) if slots[k] and views[k] > 0 else -1
        if group >= 0:
            count[group] = views[k]
            longer[group] = (dwell[k] - views[k] * m.usual_view) / (views[k] + VIEWS)
    if m.usual_view > 0:  # some candidate was viewed
        m.set_groups(CATEGORY_DWELL, longer)
    return 0


cdef int _creators(Columns m, const uint64_t *slots, const float *weights, creator) except -1:
    """Fill the same of each creator; most candidates are of different ones."""
    cdef const uint64_t[:] keys = hashes(creator, m.n)
    cdef uint64_t room[SLOTS]
    cdef int32_t places[SLOTS]
    cdef KeyTable table
    cdef float *share = m.column(CREATOR_AFFINITY)
    cdef float *positive
    cdef float total = _all_weight(weights), weight
    cdef int64_t place
    cdef Py_ssize_t i, k
    if not _any(weights):
        return 0
    positive = m.log1p_of(CREATOR_WEIGHT)
    empty_table(&table, room, places, BITS)
    for k in range(AFFINITIES):
        first_place(&table, slots[k], k)
    for i in range(m.n):
        place = place_of(&table, keys[i]) if keys[i] else -1
        weight = 0
        if place >= 0:
            weight = weights[place]
        share[i] = weight / total
        positive[i] = _not_negative(weight)
    return 0


cdef int _among(Columns m, Py_ssize_t column, const uint64_t *few, Py_ssize_t count, values) except -1:
    """Fill which keys are among a few (0: an empty place)."""
    cdef const uint64_t[:] keys = hashes(values, m.n)
    cdef uint64_t room[SLOTS]
    cdef int32_t places[SLOTS]
    cdef KeyTable table
    cdef float *to = m.column(column)
    cdef Py_ssize_t i, k
    empty_table(&table, room, places, BITS)
    for k in range(count):
        if few[k]:
            first_place(&table, few[k], k)
    for i in range(m.n):
        to[i] = place_of(&table, keys[i]) >= 0
    return 0
