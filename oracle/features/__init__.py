"""Every windowed feature as a batch job computes it from decoded records.

    records -> judge (duplicates) -> acts -> windows, totals, decayed counts, affinities

An *act* is one thing that is counted: whose row (a number), which metric, when, how much. Acts are one long
table, and every feature is a group-by over it. There is no state and no order of arrival: windows follow from
event times, not from rings of buckets.
"""
