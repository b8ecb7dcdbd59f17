# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Updates rows of users with events, compiled: one access to a row for each event."""

from libc.math cimport exp2, fabsf
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

from headrace.models.state.counter cimport Counter, Plan, Spot, add_amount, advance_to, locate, prefetch_cells
from headrace.streams.messages.packed_item_events cimport ItemEvent
from headrace.models.state.row_access cimport AHEAD, LINE, bytes_of, field_at, prefetch, rows_of_events

import numpy as np

from headrace.streams.messages.columns import ITEM_EVENT, KIND, EventColumns

cdef enum:
    MAX_RECENT = 64
    MAX_VIEW_LOGS = 1024
    NO_VIEW = -1

cdef int _CLICK = KIND["click"], _DWELL = KIND["dwell"], _PAIR = KIND["pair"]
_COLUMNS = tuple(EventColumns.__dataclass_fields__)


cdef class UserUpdates:
    """Applies events to rows of users: counts, tastes, time of views, recent clicks, sessions, pairs."""

    cdef Counter counter
    cdef ptrdiff_t hot, offset, country, n_clicks, session_len, recent, recent_ts, dwell, views
    cdef ptrdiff_t slots[2]
    cdef ptrdiff_t weights[2]
    cdef ptrdiff_t when[2]
    cdef int n_recent, n_slots, n_pairs, seq_step, dwell_s, longest
    cdef int64_t gap
    cdef double half_life_ms
    cdef int metric[16]
    cdef float taste[16]
    cdef float view_logs[MAX_VIEW_LOGS]

    def __init__(
        self, Counter counter, dtype, int64_t gap_ms, *, recent, affinities, pairs, seq_step, half_life_ms,
        metric, taste, dwell_s, view_logs,
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
        if not 0 < len(view_logs) <= MAX_VIEW_LOGS:
            raise ValueError(f"{len(view_logs)} logs of views")
        self.longest = len(view_logs) - 1
        for k in range(len(view_logs)):
            self.view_logs[k] = view_logs[k]
        for k in range(len(metric)):
            if not -1 <= metric[k] < counter.plan.metrics:
                raise ValueError(f"metric {metric[k]}")
            self.metric[k], self.taste[k] = metric[k], taste[k]
        self.offset = field_at(dtype, "offset", "<i8")
        self.country = field_at(dtype, "country", "<u8")
        self.n_clicks = field_at(dtype, "n_clicks", "<i8")
        self.session_len = field_at(dtype, "session_len", "<i4")
        self.recent = field_at(dtype, "recent", "<u8", (recent,))
        self.recent_ts = field_at(dtype, "recent_ts", "<i8", (recent,))
        self.hot = max(self.recent, self.recent_ts) + 8 * recent
        self.dwell = field_at(dtype, "cat_dwell", "<f4", (affinities,))
        self.views = field_at(dtype, "cat_views", "<f4", (affinities,))
        for k, name in enumerate(("cat", "creator")):
            self.slots[k] = field_at(dtype, name, "<u8", (affinities,))
            self.weights[k] = field_at(dtype, f"{name}_w", "<f4", (affinities,))
            self.when[k] = field_at(dtype, f"{name}_ts", "<i8")

    def apply(self, data, const int64_t[::1] rows, events):
        """Apply events in order.

        Returns
        -------
        fresh, pairs
            Which events counted, bool ``(n,)``, and the pairs they made, ``ITEM_EVENT`` in their order.
        """
        cdef Counter counter = self.counter
        cdef unsigned char[::1] raw = bytes_of(data, counter.size)
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
        cdef float taste, view
        cdef int metric, n_kinds = len(KIND)
        if {len(getattr(events, name)) for name in _COLUMNS} != {n}:
            raise ValueError("columns of different lengths")
        rows_of_events(rows, len(data), n)
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
                    locate(p, ts[i + AHEAD], spot)
                    self._prefetch(base + rows[i + AHEAD] * size, p, spot)
                if i < 0:
                    continue
                row = base + rows[i] * size
                fresh[i] = offset[i] > (<int64_t *>(row + self.offset))[0]
                if not fresh[i]:
                    continue
                (<int64_t *>(row + self.offset))[0] = offset[i]
                if country[i]:
                    (<uint64_t *>(row + self.country))[0] = country[i]
                metric = self.metric[kind[i]]
                taste = self.taste[kind[i]]
                view = NO_VIEW
                weight = advance_to(row, p, ts[i], ts[i], &here)
                if metric >= 0:
                    add_amount(row, p, &here, metric, 1, weight)
                if kind[i] == _DWELL:
                    seconds = <int64_t>dwell_s[i]
                    if seconds and self.dwell_s >= 0:
                        add_amount(row, p, &here, self.dwell_s, seconds, weight)
                    taste = min(dwell_s[i] / 30, 2)
                    view = self.view_logs[min(seconds, self.longest)]
                if taste != 0:
                    if category[i]:
                        self._affinity(row, 0, category[i], taste, view, ts[i])
                    if creator[i]:
                        self._affinity(row, 1, creator[i], taste, NO_VIEW, ts[i])
                if kind[i] == _CLICK:
                    made += self._click(row, item[i], ts[i], offset[i], pairs + made)
        return done, out[:made]

    cdef inline void _prefetch(self, const unsigned char *row, const Plan *p, const Spot *spot) noexcept nogil:
        """Prefetch the parts of a row that an event needs: fields up to the recent items, and the cells."""
        cdef ptrdiff_t at = 0
        while at < self.hot:
            prefetch(row + at)
            at += LINE
        prefetch_cells(row, p, spot)

    cdef inline void _affinity(
        self, unsigned char *row, int which, uint64_t key, float amount, float view, int64_t ts
    ) noexcept nogil:
        """Add to the decayed weight of a key; an unknown key takes a free place, or that of the weakest one.

        Of a view (``view`` is not ``NO_VIEW``: log seconds) add that and one to those of the category, too.
        """
        cdef uint64_t *slots = <uint64_t *>(row + self.slots[which])
        cdef float *weights = <float *>(row + self.weights[which])
        cdef float *dwell = <float *>(row + self.dwell)
        cdef float *views = <float *>(row + self.views)
        cdef int64_t *when = <int64_t *>(row + self.when[which])
        cdef int j, place
        cdef float left = 1
        if ts > when[0]:
            left = <float>exp2(-<double>(ts - when[0]) / self.half_life_ms)
            for j in range(self.n_slots):
                weights[j] *= left
            if which == 0:
                for j in range(self.n_slots):
                    dwell[j] *= left
                    views[j] *= left
            when[0] = ts
            left = 1
        elif ts < when[0]:
            left = <float>exp2(-<double>(when[0] - ts) / self.half_life_ms)
            amount *= left
        place = self._place(slots, weights, key)
        if slots[place] != key:
            slots[place], weights[place] = key, 0
            if which == 0:
                dwell[place] = views[place] = 0
        weights[place] += amount
        if view != NO_VIEW:
            dwell[place] += view * left
            views[place] += left

    cdef inline int _place(self, const uint64_t *slots, const float *weights, uint64_t key) noexcept nogil:
        """Return the place of a key, else the first free one, else that of the weakest key."""
        cdef int j, place = 0
        cdef float size, weakest = -1
        for j in range(self.n_slots):
            if slots[j] == key:
                return j
        for j in range(self.n_slots):
            if not slots[j]:
                return j
            size = fabsf(weights[j])
            if size < weakest or j == 0:
                place, weakest = j, size
        return place

    cdef inline int _click(
        self, unsigned char *row, uint64_t item, int64_t ts, int64_t offset, ItemEvent *out
    ) noexcept nogil:
        """Put a click at its time on the rings; return how many pairs it made.

        A click makes pairs with the clicks before it in its session. A late click is inserted between the
        others and does not change the last click.
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
        # The number of newer clicks: 0 if the click is not late.
        while place < known and times[(head + ring - 1 - place) % ring] > ts:
            place += 1
        n_clicks[0] = n + 1
        if place == ring:
            # Older than every click kept: only the ring position moves.
            self._turn(items, times, head, ring)
            return 0
        # Its pairs: the clicks before it, up to the first gap that is longer than a session allows.
        for k in range(self.n_pairs):
            if place + k >= known:
                break
            here = (head + 2 * ring - 1 - place - k) % ring
            if at - times[here] > self.gap:
                break
            at = times[here]
            if items[here] != item:
                out[made].item, out[made].other = items[here], item
                out[made].ts = ts
                out[made].source_seq = offset * self.seq_step + 1 + k
                out[made].seq_weight = <float>(1.0 / (k + 1))
                out[made].amount = 1
                out[made].kind = _PAIR
                made += 1
        if place == 0:
            here = (head + ring - 1) % ring
            length = session[0] if known and ts - times[here] <= self.gap else 0
            items[head], times[head] = item, ts
            session[0] = length + 1 if length < ring else ring
            return made
        # Shift newer clicks by one; the oldest is dropped.
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
        """Move every click to the next place: the new ring position."""
        cdef uint64_t item = items[head]
        cdef int64_t ts = times[head]
        cdef int k, here, there
        for k in range(ring - 1):
            here, there = (head + ring - k) % ring, (head + 2 * ring - 1 - k) % ring
            items[here], times[here] = items[there], times[there]
        here = (head + 1) % ring
        items[here], times[here] = item, ts
