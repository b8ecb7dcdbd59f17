"""Item events are counted once, alone or put together, from owners and former owners of a source."""

from __future__ import annotations

import numpy as np

from headrace.agents.partitions.source_marks import SourceMark


def fresh(mark: SourceMark, *told: tuple[int, int]) -> list[bool]:
    """Give item events to a mark: number, and the first number that was put together with it (0: alone)."""
    numbers = np.array([n for n, _ in told], np.int64)
    reach = np.array([n - first + 1 if first else 0 for n, first in told], np.uint32)
    return mark.fresh(numbers, reach).tolist()


def test_numbers_only_grow() -> None:
    mark = SourceMark()
    assert fresh(mark, (1, 0), (2, 0), (2, 0), (1, 0), (5, 0)) == [True, True, False, False, True]
    assert fresh(mark, (4, 0), (5, 0), (6, 0)) == [False, False, True]


def test_events_put_together_are_known_when_their_first_is() -> None:
    mark = SourceMark()
    assert fresh(mark, (8, 0), (9, 0)) == [True, True]
    assert fresh(mark, (12, 9), (13, 9)) == [False, False], (
        "of a former owner: the new one sends 10 to 13, too"
    )
    assert mark.mark == 9
    assert fresh(mark, *((n, 0) for n in range(10, 14))) == [True] * 4


def test_events_put_together_are_new_when_their_first_is() -> None:
    mark = SourceMark()
    assert fresh(mark, (9, 0), (12, 10), (13, 10), (15, 14)) == [True] * 4
    assert fresh(mark, *((n, 0) for n in range(8, 17))) == [False] * 8 + [True]


def test_a_batch_of_events_put_together_may_be_cut() -> None:
    mark = SourceMark()
    assert fresh(mark, (12, 10)) == [True]
    again = SourceMark.of(mark.value())  # a crash: the rest comes after the recovery
    assert fresh(again, (12, 10), (14, 10)) == [False, True]
    assert fresh(again, (16, 15)) == [True]


def test_a_mark_survives_its_record() -> None:
    for mark in (SourceMark(), SourceMark(2**62, 5), SourceMark(7, -1)):
        assert SourceMark.of(mark.value()) == mark
