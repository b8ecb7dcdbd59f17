# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Inner loops of user and item state, compiled: one pass over a batch, one visit of a row for each event.

Rows are numpy structured arrays; where a field lies is read from the dtype once, when a kernel object is made.
Most of the time goes to fetching rows from memory, so the row of an event to come is prefetched.
"""

import numpy as np

from libc.math cimport exp2, fabsf
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from headrace.streams.messages.columns import ITEM_EVENT, KIND, EventColumns

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define HR_PREFETCH(p) __builtin_prefetch((p), 1)
    #else
    #define HR_PREFETCH(p) ((void)(p))
    #endif
    """
    void HR_PREFETCH(const void *p) noexcept nogil

cdef enum:
    MAX_TIERS = 8
    MAX_METRICS = 16
    MAX_RECENT = 64
    AHEAD = 8  # events between a prefetch and its use
    LINE = 64

#: The largest counts of 16, 24, 32 and 40 bits.
cdef int64_t MAX16 = (1 << 16) - 1, MAX24 = (1 << 24) - 1
cdef int64_t MAX31 = (<int64_t>1 << 31) - 1, MAX32 = (<int64_t>1 << 32) - 1, MAX40 = (<int64_t>1 << 40) - 1

cdef packed struct ItemEvent:  # headrace.streams.messages.columns.ITEM_EVENT
    uint64_t item
    uint64_t other
    uint64_t country
    int64_t ts
    int64_t source_seq
    float seq_weight
    float co_weight
    float amount
    uint16_t source_partition
    uint8_t kind
    uint8_t pad

if sizeof(ItemEvent) != ITEM_EVENT.itemsize or tuple(ITEM_EVENT.names) != (
    "item", "other", "country", "ts", "source_seq", "seq_weight", "co_weight", "amount", "source_partition",
    "kind", "pad",
):
    raise ImportError("headrace.models.state.kernels is of another version than headrace.streams.messages.columns: build it again")

COLUMNS = tuple(EventColumns.__dataclass_fields__)

cdef int _CLICK = KIND["click"], _DWELL = KIND["dwell"], _PAIR = KIND["pair"]


cdef ptrdiff_t _at(dtype, name, expected, shape=()) except -1:
    """Return the offset of a field after checking its type: a wrong one would write over its neighbours."""
    if dtype.names is None or name not in dtype.fields:
        raise ValueError(f"a row needs the field {name!r}")
    field, offset = dtype.fields[name][:2]
    if field.base != np.dtype(expected) or field.shape != shape:
        raise ValueError(f"field {name!r} is {field}, {np.dtype((expected, shape))} is expected")
    if offset % field.base.itemsize:
        raise ValueError(f"field {name!r} lies at {offset}, which is not a multiple of its size")
    return offset


cdef unsigned char[::1] _bytes_of(data, Py_ssize_t size):
    """Return the bytes of a structured array after checking that its rows are of ``size`` bytes."""
    if data.dtype.itemsize != size or not data.flags.c_contiguous:
        raise ValueError(f"rows of {size} bytes, one after the other, are expected")
    return data.view(np.uint8)


cdef const unsigned char[::1] _records(events):
    """Return the bytes of ``ITEM_EVENT`` records."""
    if events.dtype != ITEM_EVENT:
        raise ValueError("ITEM_EVENT records are expected")
    return np.ascontiguousarray(events).view(np.uint8)


cdef int _rows_inside(const int64_t[::1] rows, Py_ssize_t n_rows, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    if rows.shape[0] != n:
        raise ValueError(f"{rows.shape[0]} rows for {n} events")
    for i in range(n):
        if rows[i] < 0 or rows[i] >= n_rows:
            raise IndexError(f"row {rows[i]} of a table of {n_rows}")
    return 0


def distinct(const int64_t[::1] rows, Py_ssize_t n_rows):
    """Return each row once, in the order of their first mention."""
    cdef Py_ssize_t i, n = rows.shape[0], found = 0
    cdef uint64_t bit
    _rows_inside(rows, n_rows, n)
    out = np.empty(n, np.int64)
    cdef int64_t[::1] to = out
    cdef uint64_t *seen = <uint64_t *>calloc(n_rows // 64 + 1, 8)
    if seen == NULL:
        raise MemoryError
    for i in range(n):
        bit = <uint64_t>1 << (rows[i] & 63)
        if not seen[rows[i] >> 6] & bit:
            seen[rows[i] >> 6] |= bit
            to[found] = rows[i]
            found += 1
    free(seen)
    return out[:found]


# ---------------------------------------------------------------------------------------------- counts of a row

cdef struct Tier:
    int64_t bucket_ms
    uint32_t ratio  # buckets of the tier before in one of these; 0: no whole number
    uint32_t ring
    int high_size  # bytes of a cell's high part: 0, 1, 2
    ptrdiff_t low
    ptrdiff_t high
    ptrdiff_t head


cdef struct Plan:
    int tiers
    int metrics
    Tier tier[MAX_TIERS]
    ptrdiff_t updated
    ptrdiff_t totals
    ptrdiff_t totals_x  # -1 without
    ptrdiff_t decayed
    double half_life_ms
    int64_t stand_ms
    int64_t latest


cdef struct Spot:
    # Where a time lies in the rings.
    uint32_t bucket[MAX_TIERS]
    uint32_t slot[MAX_TIERS]


cdef inline void _locate(const Plan *p, int64_t ts, Spot *spot) noexcept nogil:
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


cdef inline void _touch(const unsigned char *row, const Plan *p, const Spot *spot) noexcept nogil:
    """Ask for the cells an event will add to."""
    cdef int k
    for k in range(p.tiers):
        HR_PREFETCH(row + p.tier[k].low + 2 * spot.slot[k])
        if p.tier[k].high_size:
            HR_PREFETCH(row + p.tier[k].high + p.tier[k].high_size * spot.slot[k])


cdef void _pass(unsigned char *row, const Tier *t, int metrics, uint32_t bucket) noexcept nogil:
    """Let a tier's ring reach ``bucket``, wiping the slots passed on the way."""
    cdef int32_t *head = <int32_t *>(row + t.head)
    cdef uint32_t slot = bucket % t.ring
    cdef int64_t left = min(<int64_t>bucket - head[0], <int64_t>t.ring)
    while left > 0:  # from the new head back
        memset(row + t.low + 2 * slot * metrics, 0, 2 * metrics)
        if t.high_size:
            memset(row + t.high + t.high_size * slot * metrics, 0, t.high_size * metrics)
        slot = (slot if slot else t.ring) - 1
        left -= 1
    head[0] = <int32_t>bucket


cdef inline double _reach(unsigned char *row, const Plan *p, int64_t ts, const Spot *spot) noexcept nogil:
    """Let windows, decayed counts and ``updated`` reach ``ts``; return what an event at ``ts`` weighs."""
    cdef int64_t *updated = <int64_t *>(row + p.updated)
    cdef double *decayed = <double *>(row + p.decayed)
    cdef int64_t stands = updated[0] // p.stand_ms, to = ts // p.stand_ms
    cdef double factor
    cdef int j, k
    for k in range(p.tiers):
        if <int32_t>spot.bucket[k] > (<int32_t *>(row + p.tier[k].head))[0]:
            _pass(row, &p.tier[k], p.metrics, spot.bucket[k])
    if to > stands:
        factor = exp2(-<double>((to - stands) * p.stand_ms) / p.half_life_ms)
        for j in range(p.metrics):
            decayed[j] *= factor
        stands = to
    if ts > updated[0]:
        updated[0] = ts
    return exp2(<double>(ts - stands * p.stand_ms) / p.half_life_ms)


cdef inline void _add(
    unsigned char *row, const Plan *p, const Spot *spot, int metric, int64_t amount, double weight
) noexcept nogil:
    """Add to every tier, to the totals and the decayed count of one metric; ``_reach`` was called."""
    cdef int k
    cdef uint32_t cell
    cdef int64_t value
    cdef const Tier *t
    cdef uint16_t *low
    cdef uint32_t *total
    for k in range(p.tiers):
        t = &p.tier[k]
        if <int64_t>spot.bucket[k] <= <int64_t>(<int32_t *>(row + t.head))[0] - t.ring:
            continue  # older than the ring
        cell = spot.slot[k] + metric
        low = <uint16_t *>(row + t.low) + cell
        if t.high_size == 0:
            low[0] = <uint16_t>min(low[0] + amount, MAX16)
        elif t.high_size == 1:
            value = min((<int64_t>(row + t.high)[cell] << 16 | low[0]) + amount, MAX24)
            low[0] = <uint16_t>value
            (row + t.high)[cell] = <uint8_t>(value >> 16)
        else:
            value = min((<int64_t>(<uint16_t *>(row + t.high))[cell] << 16 | low[0]) + amount, MAX32)
            low[0] = <uint16_t>value
            (<uint16_t *>(row + t.high))[cell] = <uint16_t>(value >> 16)
    total = <uint32_t *>(row + p.totals) + metric
    if p.totals_x < 0:
        total[0] = <uint32_t>min(total[0] + amount, MAX32)
    else:
        value = min((<int64_t>(row + p.totals_x)[metric] << 32 | total[0]) + amount, MAX40)
        total[0] = <uint32_t>value
        (row + p.totals_x)[metric] = <uint8_t>(value >> 32)
    (<double *>(row + p.decayed))[metric] += weight * <double>amount


cdef class Counter:
    """Adds to the windows, totals and decayed counts of rows of one dtype."""

    cdef Plan plan
    cdef readonly Py_ssize_t size

    def __init__(self, dtype, int metrics, tiers, double half_life_ms, int64_t stand_ms):
        cdef int k
        cdef int64_t before = 0
        if len(tiers) > MAX_TIERS or not 0 < metrics <= MAX_METRICS:
            raise ValueError(f"at most {MAX_TIERS} tiers and {MAX_METRICS} metrics")
        self.size = dtype.itemsize
        p = &self.plan
        p.tiers, p.metrics, p.half_life_ms, p.stand_ms = len(tiers), metrics, half_life_ms, stand_ms
        p.latest = <int64_t>1 << 62
        p.updated = _at(dtype, "updated", "<i8")
        p.totals = _at(dtype, "totals", "<u4", (metrics,))
        p.totals_x = _at(dtype, "totals_x", "u1", (metrics,)) if "totals_x" in dtype.fields else -1
        p.decayed = _at(dtype, "decayed", "<f8", (metrics,))
        for k, (name, bucket_ms, ring) in enumerate(tiers):
            t = &p.tier[k]
            t.bucket_ms, t.ring = bucket_ms, ring
            t.ratio = bucket_ms // before if before and bucket_ms % before == 0 else 0
            before = bucket_ms
            p.latest = min(p.latest, before * MAX31)
            t.low = _at(dtype, f"w_{name}", "<u2", (ring, metrics))
            t.head = _at(dtype, f"h_{name}", "<i4")
            t.high, t.high_size = -1, 0
            if f"x_{name}" in dtype.fields:
                t.high_size = dtype.fields[f"x_{name}"][0].base.itemsize
                t.high = _at(dtype, f"x_{name}", "u1" if t.high_size == 1 else "<u2", (ring, metrics))

    def add(
        self, data, const int64_t[::1] rows, const int64_t[::1] ts, const int64_t[::1] metric,
        const int64_t[::1] amount,
    ):
        """Add ``amount[i]`` (not negative) to ``metric[i]`` of ``rows[i]`` at ``ts[i]`` (ms)."""
        cdef unsigned char[::1] raw = _bytes_of(data, self.size)
        cdef Py_ssize_t i, n = rows.shape[0]
        cdef unsigned char *row
        cdef Plan *p = &self.plan
        cdef Spot spot
        if ts.shape[0] != n or metric.shape[0] != n or amount.shape[0] != n:
            raise ValueError("columns of different lengths")
        _rows_inside(rows, len(data), n)
        for i in range(n):
            if not 0 <= metric[i] < p.metrics or not 0 <= ts[i] <= p.latest or amount[i] < 0:
                raise ValueError(f"metric {metric[i]}, ts {ts[i]}, amount {amount[i]} cannot be counted")
        with nogil:
            for i in range(n):
                row = &raw[0] + rows[i] * self.size
                _locate(p, ts[i], &spot)
                _add(row, p, &spot, <int>metric[i], amount[i], _reach(row, p, ts[i], &spot))


# -------------------------------------------------------------------------------------------------------- users

cdef class Users:
    """Applies events to rows of users: counts, tastes, recent clicks, sessions, pairs."""

    cdef Counter counter
    cdef ptrdiff_t hot, offset, country, n_clicks, session_len, has_profile, recent, recent_ts
    cdef ptrdiff_t slots[2]
    cdef ptrdiff_t weights[2]
    cdef ptrdiff_t when[2]
    cdef int n_recent, n_slots, n_pairs, seq_step, dwell_s
    cdef int64_t gap
    cdef double half_life_ms
    cdef int metric[16]
    cdef float taste[16]

    def __init__(
        self, Counter counter, dtype, int64_t gap_ms, *, recent, affinities, pairs, seq_step, half_life_ms,
        metric, taste, dwell_s,
    ):
        cdef int k
        if not pairs < recent <= MAX_RECENT or 2 * pairs >= seq_step:
            raise ValueError("too many recent items or pairs")
        if len(metric) != len(KIND) or len(taste) != len(KIND):
            raise ValueError("a metric and a taste for every kind of event")
        self.counter = counter
        self.gap, self.half_life_ms = gap_ms, half_life_ms
        self.n_recent, self.n_slots, self.n_pairs, self.seq_step = recent, affinities, pairs, seq_step
        self.dwell_s = dwell_s
        for k in range(len(metric)):
            if not -1 <= metric[k] < counter.plan.metrics:
                raise ValueError(f"metric {metric[k]}")
            self.metric[k], self.taste[k] = metric[k], taste[k]
        self.offset = _at(dtype, "offset", "<i8")
        self.country = _at(dtype, "country", "<u8")
        self.n_clicks = _at(dtype, "n_clicks", "<i8")
        self.session_len = _at(dtype, "session_len", "<i4")
        self.has_profile = _at(dtype, "has_profile", "?")
        self.recent = _at(dtype, "recent", "<u8", (recent,))
        self.recent_ts = _at(dtype, "recent_ts", "<i8", (recent,))
        self.hot = max(self.recent, self.recent_ts) + 8 * recent
        for k, name in enumerate(("cat", "creator")):
            self.slots[k] = _at(dtype, name, "<u8", (affinities,))
            self.weights[k] = _at(dtype, f"{name}_w", "<f4", (affinities,))
            self.when[k] = _at(dtype, f"{name}_ts", "<i8")

    def apply(self, data, const int64_t[::1] rows, events):
        """Apply events in order.

        Returns
        -------
        fresh, pairs
            Which events counted, bool ``(n,)``, and the pairs they made, ``ITEM_EVENT`` in their order.
        """
        cdef Counter counter = self.counter
        cdef unsigned char[::1] raw = _bytes_of(data, counter.size)
        cdef const uint64_t[::1] item = events.item
        cdef const uint64_t[::1] country = events.country
        cdef const uint64_t[::1] category = events.category
        cdef const uint64_t[::1] creator = events.creator
        cdef const int64_t[::1] ts = events.ts
        cdef const int64_t[::1] offset = events.offset
        cdef const int8_t[::1] kind = events.kind
        cdef const float[::1] dwell_s = events.dwell_s
        cdef Py_ssize_t i, n = item.shape[0], clicks = 0, made = 0
        cdef Py_ssize_t size = counter.size
        cdef Plan *p = &counter.plan
        cdef unsigned char *row
        cdef unsigned char *base
        cdef int64_t seconds
        cdef Spot spots[AHEAD]
        cdef Spot here
        cdef Spot *spot
        cdef double weight
        cdef float taste
        cdef int metric, n_kinds = len(KIND)
        if {len(getattr(events, name)) for name in COLUMNS} != {n}:
            raise ValueError("columns of different lengths")
        _rows_inside(rows, len(data), n)
        for i in range(n):
            if not 0 <= kind[i] < n_kinds or not 0 <= ts[i] <= p.latest or not 0 <= dwell_s[i] < 1e9:
                raise ValueError(f"event of kind {kind[i]} at {ts[i]} with dwell {dwell_s[i]}")
            clicks += kind[i] == _CLICK
        done = np.empty(n, np.bool_)
        out = np.zeros(clicks * self.n_pairs, ITEM_EVENT)
        if not n:
            return done, out
        cdef uint8_t[::1] fresh = done.view(np.uint8)
        cdef unsigned char[::1] out_raw = out.view(np.uint8)
        cdef ItemEvent *pairs = <ItemEvent *>&out_raw[0] if clicks else NULL
        base = &raw[0]
        with nogil:
            for i in range(-AHEAD, n):
                if i >= 0:
                    here = spots[i % AHEAD]
                if i + AHEAD < n:
                    spot = &spots[(i + AHEAD) % AHEAD]
                    _locate(p, ts[i + AHEAD], spot)
                    self._prefetch(base + rows[i + AHEAD] * size, p, spot)
                if i < 0:
                    continue
                row = base + rows[i] * size
                fresh[i] = offset[i] > (<int64_t *>(row + self.offset))[0]
                if not fresh[i]:
                    continue
                (<int64_t *>(row + self.offset))[0] = offset[i]
                if country[i] and not (row + self.has_profile)[0]:
                    (<uint64_t *>(row + self.country))[0] = country[i]
                metric = self.metric[kind[i]]
                taste = self.taste[kind[i]]
                weight = _reach(row, p, ts[i], &here)
                if metric >= 0:
                    _add(row, p, &here, metric, 1, weight)
                if kind[i] == _DWELL:
                    seconds = <int64_t>dwell_s[i]
                    if seconds and self.dwell_s >= 0:
                        _add(row, p, &here, self.dwell_s, seconds, weight)
                    taste = min(dwell_s[i] / 30, 2)
                if taste != 0:
                    if category[i]:
                        self._affinity(row, 0, category[i], taste, ts[i])
                    if creator[i]:
                        self._affinity(row, 1, creator[i], taste, ts[i])
                if kind[i] == _CLICK:
                    made += self._click(row, item[i], country[i], ts[i], offset[i], pairs + made)
        return done, out[:made]

    cdef inline void _prefetch(self, const unsigned char *row, const Plan *p, const Spot *spot) noexcept nogil:
        """Ask for what an event is going to touch: everything up to the recent items, and the cells."""
        cdef ptrdiff_t at = 0
        while at < self.hot:
            HR_PREFETCH(row + at)
            at += LINE
        _touch(row, p, spot)

    cdef inline void _affinity(
        self, unsigned char *row, int which, uint64_t key, float amount, int64_t ts
    ) noexcept nogil:
        """Add to the decayed weight of a key; an unknown one takes the weakest place."""
        cdef uint64_t *slots = <uint64_t *>(row + self.slots[which])
        cdef float *weights = <float *>(row + self.weights[which])
        cdef int64_t *when = <int64_t *>(row + self.when[which])
        cdef int j, place = -1
        cdef float factor, weakest
        if ts > when[0]:
            factor = <float>exp2(-<double>(ts - when[0]) / self.half_life_ms)
            for j in range(self.n_slots):
                weights[j] *= factor
            when[0] = ts
        elif ts < when[0]:
            amount *= <float>exp2(-<double>(when[0] - ts) / self.half_life_ms)
        for j in range(self.n_slots):
            if slots[j] == key:
                weights[j] += amount
                return
        place, weakest = 0, fabsf(weights[0])
        for j in range(1, self.n_slots):
            if fabsf(weights[j]) < weakest:
                place, weakest = j, fabsf(weights[j])
        slots[place], weights[place] = key, amount

    cdef inline int _click(
        self, unsigned char *row, uint64_t item, uint64_t country, int64_t ts, int64_t offset, ItemEvent *out
    ) noexcept nogil:
        """Put a click on the rings where its time belongs; return how many pairs it made.

        It is tied to the clicks before it in its session. A late one is put between those there are, so that
        neither the last click nor the session is disturbed.
        """
        cdef uint64_t *items = <uint64_t *>(row + self.recent)
        cdef int64_t *times = <int64_t *>(row + self.recent_ts)
        cdef int64_t *n_clicks = <int64_t *>(row + self.n_clicks)
        cdef int32_t *session = <int32_t *>(row + self.session_len)
        cdef int64_t n = n_clicks[0], at = ts
        cdef int ring = self.n_recent
        cdef int head = <int>(n % ring)  # where the newest click goes
        cdef int known = <int>(n if n < ring else ring)
        cdef int place = 0, k, here, there, made = 0, length
        # How many clicks are newer: for one that is not late, none.
        while place < known and times[(head + ring - 1 - place) % ring] > ts:
            place += 1
        n_clicks[0] = n + 1
        if place == ring:
            # Older than all that is kept. The ring turns with n_clicks all the same.
            self._turn(items, times, head, ring)
            return 0
        # Its pairs: the clicks before it, as long as no silence comes between.
        for k in range(self.n_pairs):
            if place + k >= known:
                break
            here = (head + 2 * ring - 1 - place - k) % ring
            if at - times[here] > self.gap:
                break
            at = times[here]
            if items[here] != item:
                out[made].item, out[made].other, out[made].country = items[here], item, country
                out[made].ts = ts
                out[made].source_seq = offset * self.seq_step + 1 + k
                out[made].seq_weight = <float>(1.0 / (k + 1))
                out[made].co_weight = 1
                out[made].kind = _PAIR
                made += 1
        if place == 0:
            here = (head + ring - 1) % ring
            length = session[0] if known and ts - times[here] <= self.gap else 0
            items[head], times[head] = item, ts
            session[0] = length + 1 if length < ring else ring
            return made
        # Newer clicks move up by one, the oldest gives way.
        for k in range(place):
            here, there = (head + ring - k) % ring, (head + 2 * ring - 1 - k) % ring
            items[here], times[here] = items[there], times[there]
        here = (head + ring - place) % ring
        items[here], times[here] = item, ts
        known = known + 1 if known < ring else ring
        length = 1
        while length < known:
            here = (head + 2 * ring - length) % ring
            if times[(here + 1) % ring] - times[here] > self.gap:
                break
            length += 1
        session[0] = length
        return made

    cdef inline void _turn(self, uint64_t *items, int64_t *times, int head, int ring) noexcept nogil:
        """Move every click up by one place."""
        cdef uint64_t item = items[head]
        cdef int64_t ts = times[head]
        cdef int k, here, there
        for k in range(ring - 1):
            here, there = (head + ring - k) % ring, (head + 2 * ring - 1 - k) % ring
            items[here], times[here] = items[there], times[there]
        here = (head + 1) % ring
        items[here], times[here] = item, ts


def item_events(events, pairs, source_partition: int, int seq_step, int n_pairs, counted):
    """Return the item events of applied events and their pairs (both ways), by ``source_seq``.

    ``counted`` says for every kind whether items count it. Numbers of ``events`` must grow.
    """
    cdef const uint64_t[::1] item = events.item
    cdef const uint64_t[::1] country = events.country
    cdef const int64_t[::1] ts = events.ts
    cdef const int64_t[::1] offset = events.offset
    cdef const int8_t[::1] kind = events.kind
    cdef const float[::1] dwell_s = events.dwell_s
    cdef const unsigned char[::1] pairs_raw = _records(pairs)
    cdef Py_ssize_t i, first, k, n = item.shape[0], m = len(pairs), j = 0, made = 0
    cdef uint16_t partition = source_partition
    cdef uint8_t keep[16]
    cdef int64_t end
    if len(counted) != len(KIND):
        raise ValueError("whether it counts, for every kind of event")
    for i in range(len(counted)):
        keep[i] = counted[i]
    out = np.zeros(n + 2 * m, ITEM_EVENT)
    if not n:
        return out
    cdef unsigned char[::1] out_raw = out.view(np.uint8)
    cdef ItemEvent *to = <ItemEvent *>&out_raw[0]
    cdef const ItemEvent *pair = <const ItemEvent *>&pairs_raw[0] if m else NULL
    with nogil:
        for i in range(n):
            if keep[kind[i]]:
                to[made].item, to[made].country, to[made].ts = item[i], country[i], ts[i]
                to[made].kind = kind[i]
                to[made].amount = dwell_s[i] if kind[i] == _DWELL else 1
                to[made].source_seq = offset[i] * seq_step
                to[made].source_partition = partition
                made += 1
            end = (offset[i] + 1) * seq_step
            first = j
            while j < m and pair[j].source_seq < end:
                to[made] = pair[j]
                to[made].source_partition = partition
                made += 1
                j += 1
            for k in range(first, j):
                to[made] = pair[k]
                to[made].item, to[made].other = pair[k].other, pair[k].item
                to[made].seq_weight = 0
                to[made].source_seq += n_pairs
                to[made].source_partition = partition
                made += 1
    return out[:made]


def split_item_events(list arrays not None, int count):
    """Return all item events by the partition of their item, and how many each has, int64 ``(count,)``.

    The order within a partition is kept.
    """
    cdef const unsigned char[::1] raw
    cdef const ItemEvent *e
    cdef Py_ssize_t i, n
    cdef int p
    if count < 1:
        raise ValueError(f"{count} partitions")
    sizes, places = np.zeros(count, np.int64), np.zeros(count, np.int64)
    cdef int64_t[::1] size = sizes
    cdef int64_t[::1] place = places
    for events in arrays:
        n = len(events)
        if n:
            raw = _records(events)
            e = <const ItemEvent *>&raw[0]
            with nogil:
                for i in range(n):
                    size[e[i].item % <uint64_t>count] += 1
    places[1:] = np.cumsum(sizes)[:-1]
    out = np.empty(int(sizes.sum()), ITEM_EVENT)
    if not len(out):
        return out, sizes
    cdef unsigned char[::1] out_raw = out.view(np.uint8)
    cdef ItemEvent *to = <ItemEvent *>&out_raw[0]
    for events in arrays:
        n = len(events)
        if n:
            raw = _records(events)
            e = <const ItemEvent *>&raw[0]
            with nogil:
                for i in range(n):
                    p = <int>(e[i].item % <uint64_t>count)
                    to[place[p]] = e[i]
                    place[p] += 1
    return out, sizes


# -------------------------------------------------------------------------------------------------------- items

cdef class Items:
    """Counts item events in rows of items, or of (item, country)."""

    cdef Counter counter
    cdef ptrdiff_t item, country, offset, first_ts, last_click
    cdef int metric[16]
    cdef bint by_country

    def __init__(self, Counter counter, dtype, *, metric, by_country):
        cdef int k
        if len(metric) != len(KIND):
            raise ValueError("a metric for every kind of event")
        self.counter = counter
        for k in range(len(metric)):
            if not -1 <= metric[k] < counter.plan.metrics:
                raise ValueError(f"metric {metric[k]}")
            self.metric[k] = metric[k]
        self.by_country = by_country
        self.item, self.country = _at(dtype, "item", "<u8"), _at(dtype, "country", "<u8")
        self.offset = _at(dtype, "offset", "<i8")
        self.first_ts = _at(dtype, "first_ts", "<i8")
        self.last_click = _at(dtype, "last_click", "<i8")

    def apply(self, data, const int64_t[::1] rows, events, const int64_t[::1] offsets):
        """Count events in their rows; return which of them counted, bool ``(n,)``.

        Events come many to a record, so what a row reflects is decided before any of the batch is applied.
        """
        cdef Counter counter = self.counter
        cdef Py_ssize_t i, n = len(events), size = counter.size
        cdef unsigned char[::1] raw = _bytes_of(data, size)
        cdef const unsigned char[::1] records = _records(events)
        cdef Plan *p = &counter.plan
        cdef unsigned char *row
        cdef unsigned char *base
        cdef int64_t *first
        cdef const ItemEvent *e
        cdef int metric, n_kinds = len(KIND)
        cdef Spot spots[AHEAD]
        cdef Spot here
        cdef Spot *spot
        if offsets.shape[0] != n:
            raise ValueError(f"{offsets.shape[0]} offsets for {n} events")
        _rows_inside(rows, len(data), n)
        done = np.empty(n, np.bool_)
        if not n:
            return done
        cdef uint8_t[::1] fresh = done.view(np.uint8)
        base = &raw[0]
        e = <const ItemEvent *>&records[0]
        for i in range(n):
            if e[i].kind >= n_kinds or self.metric[e[i].kind] < 0 or not 0 <= e[i].ts <= p.latest or not 0 <= e[i].amount < 1e9:
                raise ValueError(f"item event of kind {e[i].kind} at {e[i].ts}, amount {e[i].amount}")
        with nogil:
            for i in range(n):
                if i + AHEAD < n:
                    HR_PREFETCH(base + rows[i + AHEAD] * size)
                fresh[i] = offsets[i] > (<int64_t *>(base + rows[i] * size + self.offset))[0]
            for i in range(-AHEAD, n):
                if i >= 0:
                    here = spots[i % AHEAD]
                if i + AHEAD < n:
                    row = base + rows[i + AHEAD] * size
                    spot = &spots[(i + AHEAD) % AHEAD]
                    _locate(p, e[i + AHEAD].ts, spot)
                    HR_PREFETCH(row)
                    HR_PREFETCH(row + LINE)
                    HR_PREFETCH(row + 2 * LINE)
                    _touch(row, p, spot)
                if i < 0 or not fresh[i]:
                    continue
                row = base + rows[i] * size
                if offsets[i] > (<int64_t *>(row + self.offset))[0]:
                    (<int64_t *>(row + self.offset))[0] = offsets[i]
                (<uint64_t *>(row + self.item))[0] = e[i].item
                if self.by_country:
                    (<uint64_t *>(row + self.country))[0] = e[i].country
                first = <int64_t *>(row + self.first_ts)
                if first[0] == 0 or e[i].ts < first[0]:
                    first[0] = e[i].ts
                if e[i].kind == _CLICK and e[i].ts > (<int64_t *>(row + self.last_click))[0]:
                    (<int64_t *>(row + self.last_click))[0] = e[i].ts
                metric = self.metric[e[i].kind]
                _add(row, p, &here, metric, <int64_t>e[i].amount, _reach(row, p, e[i].ts, &here))
        return done


# --------------------------------------------------------------------------------------------------- neighbours

cdef class Neighbours:
    """Adds pairs to neighbour rows."""

    cdef Py_ssize_t size
    cdef ptrdiff_t offset, updated, seq_total, co_total, other, seq, co
    cdef int n_slots
    cdef int64_t step_ms
    cdef double half_life_ms

    def __init__(self, dtype, *, int slots, int64_t step_ms, double half_life_ms):
        self.size = dtype.itemsize
        self.n_slots, self.step_ms, self.half_life_ms = slots, step_ms, half_life_ms
        self.offset = _at(dtype, "offset", "<i8")
        self.updated = _at(dtype, "updated", "<i8")
        self.seq_total = _at(dtype, "seq_total", "<f4")
        self.co_total = _at(dtype, "co_total", "<f4")
        self.other = _at(dtype, "other", "<u8", (slots,))
        self.seq = _at(dtype, "seq", "<f4", (slots,))
        self.co = _at(dtype, "co", "<f4", (slots,))

    def apply(self, data, const int64_t[::1] rows, pairs, const int64_t[::1] offsets):
        """Add pairs in order; return which of them counted, bool ``(n,)``."""
        cdef Py_ssize_t i, n = len(pairs), size = self.size
        cdef unsigned char[::1] raw = _bytes_of(data, size)
        cdef const unsigned char[::1] records = _records(pairs)
        cdef unsigned char *row
        cdef unsigned char *base
        cdef const ItemEvent *e
        cdef ptrdiff_t at
        if offsets.shape[0] != n:
            raise ValueError(f"{offsets.shape[0]} offsets for {n} pairs")
        _rows_inside(rows, len(data), n)
        done = np.empty(n, np.bool_)
        if not n:
            return done
        cdef uint8_t[::1] fresh = done.view(np.uint8)
        base = &raw[0]
        e = <const ItemEvent *>&records[0]
        with nogil:
            for i in range(n):
                if i + AHEAD < n:
                    HR_PREFETCH(base + rows[i + AHEAD] * size)
                fresh[i] = offsets[i] > (<int64_t *>(base + rows[i] * size + self.offset))[0]
            for i in range(n):
                if i + AHEAD < n:
                    row = base + rows[i + AHEAD] * size
                    at = 0
                    while at < self.seq:
                        HR_PREFETCH(row + at)
                        at += LINE
                if fresh[i]:
                    row = base + rows[i] * size
                    if offsets[i] > (<int64_t *>(row + self.offset))[0]:
                        (<int64_t *>(row + self.offset))[0] = offsets[i]
                    self._add(row, &e[i])
        return done

    cdef inline void _add(self, unsigned char *row, const ItemEvent *e) noexcept nogil:
        cdef int64_t *updated = <int64_t *>(row + self.updated)
        cdef float *seq_total = <float *>(row + self.seq_total)
        cdef float *co_total = <float *>(row + self.co_total)
        cdef uint64_t *other = <uint64_t *>(row + self.other)
        cdef float *seq = <float *>(row + self.seq)
        cdef float *co = <float *>(row + self.co)
        cdef int64_t stands = updated[0] // self.step_ms, now = e.ts // self.step_ms
        cdef int j, place = -1
        cdef float factor, own, weakest
        if now > stands:
            factor = <float>exp2(-<double>((now - stands) * self.step_ms) / self.half_life_ms)
            for j in range(self.n_slots):
                seq[j] *= factor
            for j in range(self.n_slots):
                co[j] *= factor
            seq_total[0] *= factor
            co_total[0] *= factor
            stands = now
        if e.ts > updated[0]:
            updated[0] = e.ts
        own = 1 if now == stands else <float>exp2(<double>((now - stands) * self.step_ms) / self.half_life_ms)
        seq_total[0] += e.seq_weight * own
        co_total[0] += e.co_weight * own
        for j in range(self.n_slots):
            if other[j] == e.other:
                seq[j] += e.seq_weight * own
                co[j] += e.co_weight * own
                return
            if not other[j]:  # places are taken in order and never given back
                place = j
                break
        if place < 0:
            place, weakest = 0, seq[0] + co[0]
            for j in range(1, self.n_slots):
                if seq[j] + co[j] < weakest:
                    place, weakest = j, seq[j] + co[j]
        other[place], seq[place], co[place] = e.other, e.seq_weight * own, e.co_weight * own
