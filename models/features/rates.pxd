# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rates and views of new and rare items: against its category."""

from headrace.models.features.columns cimport Columns

cdef int fill_lifts_of_items(Columns m, const float *clicks, const float *shown, const float *skips) except -1
cdef int fill_lifts_of_views(Columns m, const float *clicks, const float *seconds) except -1
