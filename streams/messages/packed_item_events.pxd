# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Item events in memory, for compiled loops."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef packed struct ItemEvent:  # headrace.streams.messages.columns.ITEM_EVENT
    uint64_t item
    uint64_t other
    uint64_t country
    int64_t ts
    int64_t source_seq
    uint32_t amount
    float seq_weight
    uint32_t reach
    uint16_t span
    uint16_t source_partition
    uint8_t kind
    uint8_t alone
    uint8_t age_group
    uint8_t pad[5]

cdef enum:
    EVERYWHERE, BY_COUNTRY, BY_AGE  # what a row of an item is of


cdef inline bint has_place(const ItemEvent *e, int by) noexcept nogil:
    """Return whether an event counts in a row of this kind."""
    return by == EVERYWHERE or (e.country != 0 and (by == BY_COUNTRY or e.age_group != 0))


cdef inline uint64_t place_of(const ItemEvent *e, int by) noexcept nogil:
    """Return the place of a row of this kind, as ``models.state.items.place_key``."""
    return e.country + (<uint64_t>e.age_group * <uint64_t>0xD6E8FEB86659FD93 if by == BY_AGE else 0)


cdef const unsigned char[::1] records_of(events)
