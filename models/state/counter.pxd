# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Counts of a row, windows, all-time totals and decayed counts: where they are, how an event is added.

The functions are compiled into the loops of ``user_updates`` and ``item_updates``. For each event they call
``locate``, ``advance_to`` and then ``add_amount`` for every metric. Times and metrics were checked before.
"""

from libc.math cimport exp2
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from headrace.models.state.row_access cimport prefetch

cdef extern from *:
    """
    #define HR_MAX16 ((int64_t)0xFFFF)
    #define HR_MAX24 ((int64_t)0xFFFFFF)
    #define HR_MAX31 ((int64_t)0x7FFFFFFF)
    #define HR_MAX32 ((int64_t)0xFFFFFFFF)
    #define HR_MAX40 ((int64_t)0xFFFFFFFFFF)
    """
    const int64_t MAX16 "HR_MAX16", MAX24 "HR_MAX24", MAX31 "HR_MAX31", MAX32 "HR_MAX32", MAX40 "HR_MAX40"

cdef enum:
    MAX_TIERS = 8


cdef struct Tier:
    int64_t bucket_ms
    uint32_t ratio  # buckets of the tier before in one of these; 0: no whole number
    uint32_t ring
    int high_size  # bytes of a cell's high part: 0, 1, 2
    ptrdiff_t low
    ptrdiff_t high
    ptrdiff_t head


cdef struct Plan:
    # Where the counts are in a row: bytes from its start.
    int tiers
    int metrics
    Tier tier[MAX_TIERS]
    ptrdiff_t updated
    ptrdiff_t totals
    ptrdiff_t totals_x  # -1: totals have no high part
    ptrdiff_t decayed
    double half_life_ms
    int64_t stand_ms
    int64_t latest  # the largest time that fits, ms


cdef struct Spot:
    # The bucket of a time in every tier, and the first cell of that bucket.
    uint32_t bucket[MAX_TIERS]
    uint32_t slot[MAX_TIERS]


cdef inline void locate(const Plan *p, int64_t ts, Spot *spot) noexcept nogil:
    """Find the buckets of a time."""
    cdef int k
    cdef uint32_t bucket = 0
    for k in range(p.tiers):
        # The quotient of 32-bit numbers is several times faster.
        if p.tier[k].ratio:
            bucket = bucket // p.tier[k].ratio
        else:
            bucket = <uint32_t>(ts // p.tier[k].bucket_ms)
        spot.bucket[k] = bucket
        spot.slot[k] = (bucket % p.tier[k].ring) * p.metrics


cdef inline void prefetch_cells(const unsigned char *row, const Plan *p, const Spot *spot) noexcept nogil:
    """Prefetch the cells to which an event will be added; their high parts are rarely needed."""
    cdef int k
    for k in range(p.tiers):
        prefetch(row + p.tier[k].low + 2 * spot.slot[k])


cdef inline void zero_slots(unsigned char *row, const Tier *t, int metrics, int64_t first, int64_t count) noexcept nogil:
    """Zero the cells of some slots, one after the other."""
    memset(row + t.low + 2 * first * metrics, 0, 2 * count * metrics)
    if t.high_size:
        memset(row + t.high + t.high_size * first * metrics, 0, t.high_size * count * metrics)


cdef inline void advance_ring(unsigned char *row, const Tier *t, int metrics, uint32_t bucket) noexcept nogil:
    """Make ``bucket`` the newest one of a tier, and zero the slots between the old head and it."""
    cdef int32_t *head = <int32_t *>(row + t.head)
    cdef int64_t count = min(<int64_t>bucket - head[0], <int64_t>t.ring), end = bucket % t.ring + 1
    if count > end:  # they begin before the end of the ring
        zero_slots(row, t, metrics, t.ring + end - count, count - end)
        count = end
    zero_slots(row, t, metrics, end - count, count)
    head[0] = <int32_t>bucket


cdef inline void advance_rings(unsigned char *row, const Plan *p, const Spot *spot) noexcept nogil:
    """Bring the windows forward to the buckets of a time."""
    cdef int k
    for k in range(p.tiers):
        if <int32_t>spot.bucket[k] > (<int32_t *>(row + p.tier[k].head))[0]:
            advance_ring(row, &p.tier[k], p.metrics, spot.bucket[k])


cdef inline double advance_decayed(unsigned char *row, const Plan *p, int64_t ts, int64_t weighed_at) noexcept nogil:
    """Bring decayed counts and ``updated`` forward to ``ts``; return the weight of an event.

    The weight is that of an event at ``weighed_at``, which is not after ``ts`` and of the same day. Decayed
    counts are those at the start of a period (``stand_ms``); the weight of an event depends on its distance
    from it. A row that is newer than ``ts`` is not changed.
    """
    cdef int64_t *updated = <int64_t *>(row + p.updated)
    cdef double *decayed = <double *>(row + p.decayed)
    cdef int64_t stands = updated[0] // p.stand_ms, to = ts // p.stand_ms
    cdef double factor
    cdef int j
    if to > stands:
        factor = exp2(-<double>((to - stands) * p.stand_ms) / p.half_life_ms)
        for j in range(p.metrics):
            decayed[j] *= factor
        stands = to
    if ts > updated[0]:
        updated[0] = ts
    return exp2(<double>(weighed_at - stands * p.stand_ms) / p.half_life_ms)


cdef inline double advance_to(
    unsigned char *row, const Plan *p, int64_t ts, int64_t weighed_at, const Spot *spot
) noexcept nogil:
    """Bring all counts of a row forward to ``ts``; return the weight of an event, as ``advance_decayed``."""
    advance_rings(row, p, spot)
    return advance_decayed(row, p, ts, weighed_at)


cdef inline void add_high(unsigned char *row, const Tier *t, uint32_t cell, int64_t amount) noexcept nogil:
    """Add to a cell whose low part becomes too large."""
    cdef uint16_t *low = <uint16_t *>(row + t.low) + cell
    cdef int64_t value
    if t.high_size == 0:
        low[0] = <uint16_t>MAX16
    elif t.high_size == 1:
        value = min((<int64_t>(row + t.high)[cell] << 16 | low[0]) + amount, MAX24)
        low[0] = <uint16_t>value
        (row + t.high)[cell] = <uint8_t>(value >> 16)
    else:
        value = min((<int64_t>(<uint16_t *>(row + t.high))[cell] << 16 | low[0]) + amount, MAX32)
        low[0] = <uint16_t>value
        (<uint16_t *>(row + t.high))[cell] = <uint16_t>(value >> 16)


cdef inline void add_total(unsigned char *row, const Plan *p, int metric, int64_t amount) noexcept nogil:
    """Add to an all-time total."""
    cdef uint32_t *total = <uint32_t *>(row + p.totals) + metric
    cdef int64_t value = total[0] + amount
    if value > MAX32:  # the high part is only touched now: it lies at the other end of the row
        if p.totals_x < 0:
            value = MAX32
        else:
            value = min((<int64_t>(row + p.totals_x)[metric] << 32) + value, MAX40)
            (row + p.totals_x)[metric] = <uint8_t>(value >> 32)
    total[0] = <uint32_t>value


cdef inline void add_amount(
    unsigned char *row, const Plan *p, const Spot *spot, int metric, int64_t amount, double weight
) noexcept nogil:
    """Add to one metric: to its bucket in every tier, its total and its decayed count.

    Call ``advance_to`` before. A bucket that is older than the ring of its tier is left out.
    """
    cdef int k
    cdef uint32_t cell
    cdef int64_t value
    cdef const Tier *t
    cdef uint16_t *low
    for k in range(p.tiers):
        t = &p.tier[k]
        if <int64_t>spot.bucket[k] <= <int64_t>(<int32_t *>(row + t.head))[0] - t.ring:
            continue
        cell = spot.slot[k] + metric
        low = <uint16_t *>(row + t.low) + cell
        value = low[0] + amount
        if value <= MAX16:
            low[0] = <uint16_t>value
        else:
            add_high(row, t, cell, amount)
    add_total(row, p, metric, amount)
    (<double *>(row + p.decayed))[metric] += weight * <double>amount


cdef class Counter:
    cdef Plan plan
    cdef readonly Py_ssize_t size
