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
    uint8_t pad[6]

cdef const unsigned char[::1] records_of(events)
