# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Features of the item with the session, compiled: clicked after its clicks, or with them; content."""

from libc.math cimport sqrt
from libc.stdint cimport uint64_t

from headrace.models.features.columns cimport Columns, floats, hashes, rows_like
from headrace.models.features.item cimport clicks_of
from headrace.models.features.relative cimport share, smoothed
from headrace.streams.tables.row_bytes cimport RowBytes

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.state.items import ROW

cdef Py_ssize_t NEXT_SCORE = SPEC.index("next_score")
cdef Py_ssize_t NEXT_SHARE = SPEC.index("next_share")
cdef Py_ssize_t NEXT_SHARE_2 = SPEC.index("next_share_2")
cdef Py_ssize_t NEXT_SHARE_ALL = SPEC.index("next_share_all")
cdef Py_ssize_t NEXT_RECENT = SPEC.index("next_recent")
cdef Py_ssize_t NEXT_TOTAL = SPEC.index("next_total")
cdef Py_ssize_t NEXT_SMOOTHED = SPEC.index("next_smoothed")
cdef Py_ssize_t NEXT_RANK = SPEC.index("next_rank")
cdef Py_ssize_t TOGETHER_SCORE = SPEC.index("together_score")
cdef Py_ssize_t TOGETHER_SHARE = SPEC.index("together_share")
cdef Py_ssize_t TOGETHER_LIFT = SPEC.index("together_lift")
cdef Py_ssize_t TOGETHER_RANK = SPEC.index("together_rank")
cdef Py_ssize_t TOGETHER_RECENT = SPEC.index("together_recent")
VECTOR_USER, VECTOR_LAST = SPEC.index("vector_user"), SPEC.index("vector_last")
cdef Py_ssize_t SAME_LANGUAGE = SPEC.index("same_language")
cdef Py_ssize_t SAME_CATEGORY = SPEC.index("same_category_as_last")
cdef Py_ssize_t SAME_CREATOR = SPEC.index("same_creator_as_last")
cdef Py_ssize_t PRIOR = SPEC.index("prior_lately")
cdef Py_ssize_t PRIOR_RANK = SPEC.index("prior_lately_rank")
cdef Py_ssize_t CLICK_SHARE_1H = SPEC.index("item_click_share_1h")
cdef Py_ssize_t CLICK_SHARE_15M = SPEC.index("item_click_share_15m")
cdef Py_ssize_t COUNTRY_SMOOTHED = SPEC.index("country_smoothed_1h")

#: Weight, in counts, of the average in smoothed shares.
cdef float SMOOTHING = 20
#: An item has so many clicks more when its pairs are divided by them.
cdef double CLICKS_BEFORE = 10


cdef int _copy(Columns m, Py_ssize_t column, values) except -1:
    """Fill a column with what is given; with nothing, it stays zeros."""
    cdef const float[:] given
    cdef float *to = m.column(column)
    cdef Py_ssize_t i
    if values is not None:
        given = floats(values, m.n)
        for i in range(m.n):
            to[i] = given[i]
    return 0


def fill_pairs(Columns m not None, c):
    cdef RowBytes rows = rows_like(c.stats, ROW, m.n)
    cdef const float[:] given = floats(c.next_score, m.n)
    cdef float *score = m.log1p_of(NEXT_SCORE)
    cdef float *together = m.column(TOGETHER_SCORE)
    cdef float *lift = m.column(TOGETHER_LIFT)
    cdef float *recent = m.numbers
    cdef Py_ssize_t i
    for i in range(m.n):
        score[i] = given[i]
    _copy(m, NEXT_SHARE, c.next_share)
    _copy(m, NEXT_SHARE_2, c.next_share_2)
    _copy(m, NEXT_SHARE_ALL, c.next_share_all)
    _copy(m, NEXT_RECENT, c.next_recent)
    if c.together_recent is not None:
        given = floats(c.together_recent, m.n)
        for i in range(m.n):
            recent[i] = given[i]
        share(recent, m.n, m.column(TOGETHER_RECENT))
    m.set_all(NEXT_TOTAL, np.log1p(c.next_total))
    smoothed(score, m.column(CLICK_SHARE_1H), SMOOTHING, c.next_total, m.n, m.column(NEXT_SMOOTHED))
    m.rank(NEXT_RANK, score)
    _copy(m, TOGETHER_SCORE, c.together)
    share(together, m.n, m.column(TOGETHER_SHARE))
    # Popular items are seen together with all others, so their strength is divided by their own clicks.
    for i in range(m.n):
        lift[i] = <float> (<double> together[i] / sqrt(<double> clicks_of(rows.start + i * rows.step) + CLICKS_BEFORE))
    m.rank(TOGETHER_RANK, together)


def fill_content(Columns m not None, c, ctx):
    np.matmul(c.vectors, ctx.user_vector, out=m.array[VECTOR_USER])
    np.matmul(c.vectors, ctx.last_vector, out=m.array[VECTOR_LAST])
    if c.language is not None and ctx.language:
        _same(m, SAME_LANGUAGE, c.language, ctx.language, -1)
    if ctx.last_category:
        _same(m, SAME_CATEGORY, c.category, ctx.last_category, 0)
    if ctx.last_creator:
        _same(m, SAME_CREATOR, c.creator, ctx.last_creator, 0)


cdef int _same(Columns m, Py_ssize_t column, values, uint64_t wanted, float other) except -1:
    """Fill 1 where a hash is the wanted one, ``other`` where it is another; 0 where there is none."""
    cdef const uint64_t[:] given = hashes(values, m.n)
    cdef float *to = m.column(column)
    cdef Py_ssize_t i
    for i in range(m.n):
        to[i] = 1 if given[i] == wanted else other if given[i] else 0
    return 0


def fill_prior(Columns m not None):
    cdef float *recent = m.column(NEXT_RECENT)
    cdef float *together = m.column(TOGETHER_RECENT)
    cdef float *country = m.column(COUNTRY_SMOOTHED)
    cdef float *clicks = m.column(CLICK_SHARE_15M)
    cdef float *prior = m.column(PRIOR)
    cdef Py_ssize_t i
    for i in range(m.n):
        prior[i] = ((recent[i] + together[i]) + country[i]) + clicks[i]
    m.rank(PRIOR_RANK, prior)
