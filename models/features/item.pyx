# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Features of the item, compiled: windows, age, and its rank among the candidates and in the country."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from headrace.models.features.columns cimport Columns, floats, rows_like
from headrace.models.features.rates cimport fill_lifts_of_items, fill_lifts_of_views
from headrace.models.features.relative cimport share, smoothed, summed
from headrace.models.state.row_access cimport field_at, prefetch
from headrace.streams.tables.row_bytes cimport RowBytes
from headrace.streams.window_sums cimport WindowSums

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.state.items import METRICS, ROW, WINDOWS

cdef Py_ssize_t CLICKS_5M = SPEC.index("item_clicks_5m")
cdef Py_ssize_t CLICKS_15M = SPEC.index("item_clicks_15m")
cdef Py_ssize_t CLICKS_1H = SPEC.index("item_clicks_1h")
cdef Py_ssize_t CLICKS_24H = SPEC.index("item_clicks_24h")
cdef Py_ssize_t CLICKS_TOTAL = SPEC.index("item_clicks_total")
cdef Py_ssize_t SHOWN_1H = SPEC.index("item_shown_1h")
cdef Py_ssize_t SHOWN_24H = SPEC.index("item_shown_24h")
cdef Py_ssize_t CTR_1H = SPEC.index("item_ctr_1h")
cdef Py_ssize_t CTR_24H = SPEC.index("item_ctr_24h")
cdef Py_ssize_t SKIP_RATE_24H = SPEC.index("item_skip_rate_24h")
cdef Py_ssize_t DWELL_MEAN_24H = SPEC.index("item_dwell_mean_24h")
cdef Py_ssize_t LIKE_RATE_24H = SPEC.index("item_like_rate_24h")
cdef Py_ssize_t TREND = SPEC.index("item_trend")
cdef Py_ssize_t AGE_H = SPEC.index("item_age_h")
cdef Py_ssize_t IDLE_MIN = SPEC.index("item_idle_min")
cdef Py_ssize_t DURATION = SPEC.index("item_duration")
cdef Py_ssize_t WATCHED_24H = SPEC.index("item_watched_24h")
cdef Py_ssize_t CATEGORY_WATCHED_24H = SPEC.index("category_watched_24h")
cdef Py_ssize_t CLICK_SHARE_5M = SPEC.index("item_click_share_5m")
cdef Py_ssize_t CLICK_SHARE_15M = SPEC.index("item_click_share_15m")
cdef Py_ssize_t CLICK_SHARE_1H = SPEC.index("item_click_share_1h")
cdef Py_ssize_t CLICK_RANK_15M = SPEC.index("item_click_rank_15m")
cdef Py_ssize_t CLICK_RANK_1H = SPEC.index("item_click_rank_1h")
cdef Py_ssize_t COUNTRY_CLICKS_1H = SPEC.index("country_clicks_1h")
cdef Py_ssize_t COUNTRY_SHARE_1H = SPEC.index("country_share_1h")
cdef Py_ssize_t COUNTRY_RANK_1H = SPEC.index("country_rank_1h")
cdef Py_ssize_t COUNTRY_SMOOTHED_1H = SPEC.index("country_smoothed_1h")

cdef enum:
    AHEAD = 4  # rows that are fetched from memory while earlier ones are read
    LINE = 64
    QUARTER = 3  # buckets of the hourly window that make about a quarter of an hour

cdef enum:
    SHOWN, CLICK, SKIP, DWELL, LIKE  # as in ``METRICS``

if METRICS != ("shown", "click", "skip", "dwell_s", "like"):
    raise ImportError("the metrics of an item are read in another order")

cdef WindowSums _windows = WINDOWS.sums_of(ROW)
cdef int T_5M, T_1H, T_24H
cdef int64_t N_5M, N_1H, N_24H  # their buckets
T_5M, N_5M = WINDOWS.asked("5m")
T_1H, N_1H = WINDOWS.asked("1h")
T_24H, N_24H = WINDOWS.asked("24h")
cdef Py_ssize_t METRIC_COUNT = len(METRICS)
cdef ptrdiff_t FIRST_TS = field_at(ROW, "first_ts", "<i8"), LAST_CLICK = field_at(ROW, "last_click", "<i8")
cdef ptrdiff_t TOTALS = field_at(ROW, "totals", "<u4", (METRIC_COUNT,))
cdef ptrdiff_t TOTALS_X = field_at(ROW, "totals_x", "u1", (METRIC_COUNT,))

cdef double MS_OF_HOUR = 3_600_000, MS_OF_MINUTE = 60_000, MS_OF_SECOND = 1000
#: In a product with float32 a constant is float32, too, as it is in numpy.
cdef float ONE = 1, FIVE_MINUTES_OF_AN_HOUR = 12
#: Rates are smoothed towards one click in so many impressions.
cdef float IMPRESSIONS = 20
#: Weight, in counts, of the average in smoothed shares.
cdef float SMOOTHING = 20


cdef uint64_t clicks_of(const char *row) noexcept nogil:
    """Return all clicks of an item row."""
    return (<const uint32_t *> (row + TOTALS))[CLICK] | <uint64_t> (<const uint8_t *> (row + TOTALS_X))[CLICK] << 32


def fill_item(Columns m not None, c, ctx):
    cdef RowBytes rows = rows_like(c.stats, ROW, m.n)
    cdef Py_ssize_t n = m.n
    cdef float *skips = m.numbers
    cdef float *seconds = m.numbers + n
    cdef float *clicks_5m = m.log1p_of(CLICKS_5M)
    cdef float *quarter = m.log1p_of(CLICKS_15M)
    cdef float *clicks_1h = m.log1p_of(CLICKS_1H)
    cdef float *clicks = m.log1p_of(CLICKS_24H)
    cdef float *shown = m.log1p_of(SHOWN_24H)
    _read(m, rows, ctx.now, clicks_5m, quarter, clicks_1h, clicks, shown, skips, seconds)
    _age(m, rows, c.published, ctx.now)
    fill_lifts_of_items(m, clicks, shown, skips)
    fill_lifts_of_views(m, clicks, seconds)
    if c.duration is not None:
        _watched(m, clicks, seconds, c.duration)
    share(clicks_5m, n, m.column(CLICK_SHARE_5M))
    share(quarter, n, m.column(CLICK_SHARE_15M))
    share(clicks_1h, n, m.column(CLICK_SHARE_1H))
    m.rank(CLICK_RANK_15M, quarter)
    m.rank(CLICK_RANK_1H, clicks_1h)


cdef int _read(
    Columns m, RowBytes rows, int64_t now, float *clicks_5m, float *quarter, float *clicks_1h, float *clicks,
    float *shown, float *skips, float *seconds
) except -1:
    """Fill counts and rates of each item."""
    cdef float *shown_1h = m.log1p_of(SHOWN_1H)
    cdef float *mean = m.log1p_of(DWELL_MEAN_24H)
    cdef double *total = m.wide_log1p_of(CLICKS_TOTAL)
    cdef float *ctr_1h = m.column(CTR_1H)
    cdef float *ctr = m.column(CTR_24H)
    cdef float *skip_rate = m.column(SKIP_RATE_24H)
    cdef float *like_rate = m.column(LIKE_RATE_24H)
    cdef float *trend = m.column(TREND)
    cdef int64_t b_5m = _windows.bucket(T_5M, now)
    cdef int64_t b_1h = _windows.bucket(T_1H, now)
    cdef int64_t b_24h = _windows.bucket(T_24H, now)
    cdef float hour[2]
    cdef float day[5]
    cdef const char *row
    cdef const char *ahead
    cdef Py_ssize_t i
    with nogil:
        for i in range(m.n):
            row = rows.start + i * rows.step
            if i + AHEAD < m.n:
                ahead = row + AHEAD * rows.step
                while ahead < row + AHEAD * rows.step + rows.size:
                    prefetch(ahead)
                    ahead += LINE
            _windows.sums(row, T_5M, b_5m, N_5M, CLICK, 1, &clicks_5m[i])
            _windows.sums(row, T_1H, b_1h, QUARTER, CLICK, 1, &quarter[i])
            _windows.sums(row, T_1H, b_1h, N_1H, SHOWN, 2, hour)
            _windows.sums(row, T_24H, b_24h, N_24H, SHOWN, 5, day)
            shown_1h[i], clicks_1h[i] = hour[SHOWN], hour[CLICK]
            shown[i], clicks[i], skips[i], seconds[i] = day[SHOWN], day[CLICK], day[SKIP], day[DWELL]
            total[i] = <double> clicks_of(row)
            ctr_1h[i] = (hour[CLICK] + ONE) / (max(hour[SHOWN], hour[CLICK]) + IMPRESSIONS)
            ctr[i] = (day[CLICK] + ONE) / (max(day[SHOWN], day[CLICK]) + IMPRESSIONS)
            skip_rate[i] = day[SKIP] / (day[SKIP] + day[CLICK] + IMPRESSIONS)
            mean[i] = day[DWELL] / (day[CLICK] + ONE)
            like_rate[i] = day[LIKE] / (day[CLICK] + IMPRESSIONS)
            trend[i] = (FIVE_MINUTES_OF_AN_HOUR * clicks_5m[i] + ONE) / (hour[CLICK] + ONE)
    return 0


cdef int _age(Columns m, RowBytes rows, published, int64_t now) except -1:
    """Fill the time since an item was published, and since its last click; -1 where it is not known."""
    cdef const int64_t[:] told = np.asarray(published, np.int64)
    cdef double *hours = m.wide_log1p_of(AGE_H)
    cdef double *minutes = m.wide_log1p_of(IDLE_MIN)
    cdef float *age = m.column(AGE_H)
    cdef float *idle = m.column(IDLE_MIN)
    cdef int64_t born, last
    cdef Py_ssize_t i
    if told.shape[0] != m.n:
        raise ValueError(f"{told.shape[0]} times of publication for {m.n} candidates")
    for i in range(m.n):
        born = told[i] if told[i] > 0 else (<const int64_t *> (rows.start + i * rows.step + FIRST_TS))[0]
        last = (<const int64_t *> (rows.start + i * rows.step + LAST_CLICK))[0]
        hours[i] = minutes[i] = 0
        if born > 0:
            hours[i] = <double> max(now - born, 0) / MS_OF_HOUR
        else:
            age[i] = -1
        if last > 0:
            minutes[i] = <double> max(now - last, 0) / MS_OF_MINUTE
        else:
            idle[i] = -1
    return 0


cdef int _watched(Columns m, const float *clicks, const float *seconds, duration) except -1:
    """Fill the share of its duration that an item was watched for, and that of its category, 0 to 1.

    Of the category: of all candidates that are in it and have a duration. Smoothed by one click that watched
    nothing. Nothing is filled where no candidate has a duration.
    """
    cdef const int64_t[:] ms = np.asarray(duration, np.int64)
    cdef double *watched = m.sums
    cdef double *possible = m.sums + m.groups
    cdef float *item = m.column(WATCHED_24H)
    cdef float *category = m.column(CATEGORY_WATCHED_24H)
    cdef float *length
    cdef float own, of_item, could
    cdef Py_ssize_t i, g
    if ms.shape[0] != m.n:
        raise ValueError(f"{ms.shape[0]} durations for {m.n} candidates")
    for i in range(m.n):
        if ms[i]:
            break
    else:
        return 0
    length = m.log1p_of(DURATION)
    for g in range(m.groups):
        watched[g] = possible[g] = 0
    for i in range(m.n):
        length[i] = <float> (<double> ms[i] / MS_OF_SECOND)
        own = of_item = 0
        if length[i] > 0:
            own, of_item = clicks[i], seconds[i]
        could = (own + ONE) * length[i]
        item[i] = min(of_item / max(could, ONE), ONE)
        watched[m.group[i]] += of_item
        possible[m.group[i]] += could
    for g in range(m.groups):
        watched[g] = min(watched[g] / max(possible[g], 1), 1) if m.keys[g] else 0
    for i in range(m.n):
        category[i] = <float> watched[m.group[i]]
    return 0


def fill_country(Columns m not None, c):
    cdef const float[:] given = floats(c.country_clicks, m.n)
    cdef float *clicks = m.log1p_of(COUNTRY_CLICKS_1H)
    cdef Py_ssize_t i
    for i in range(m.n):
        clicks[i] = given[i]
    share(clicks, m.n, m.column(COUNTRY_SHARE_1H))
    m.rank(COUNTRY_RANK_1H, clicks)
    # The shares of a country with few clicks are close to the average ones.
    smoothed(
        clicks, m.column(CLICK_SHARE_1H), SMOOTHING, summed(clicks, m.n), m.n, m.column(COUNTRY_SMOOTHED_1H)
    )
