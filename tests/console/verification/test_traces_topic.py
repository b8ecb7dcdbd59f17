"""From when on every traced list must have a trace."""

from __future__ import annotations

from headrace.console.verification.traces_topic import _since


def test_with_all_records_it_is_the_first_one() -> None:
    assert _since({0: 500, 1: 300}, set()) == 300


def test_where_records_were_deleted_it_is_the_first_one_left() -> None:
    assert _since({0: 500, 1: 300, 2: 900}, {0, 1}) == 500


def test_without_a_trace_in_a_partition_nobody_knows() -> None:
    assert _since({}, set()) is None
    assert _since({0: 500}, {0, 1}) is None
