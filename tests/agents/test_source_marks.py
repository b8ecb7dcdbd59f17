"""Item events are counted once, alone or put together, from owners and former owners of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.agents.partitions.source_marks import SourceMark
from headrace.models.state.item_events import new_item_events
from headrace.streams.messages.columns import ITEM_EVENT

Told = tuple[int, int, int]  # source, number, first number that was put together with it (0: alone)


def events_of(told: Sequence[Told]) -> np.ndarray[Any, Any]:
    out = np.zeros(len(told), ITEM_EVENT)
    out["source_partition"], out["source_seq"] = [s for s, _, _ in told], [n for _, n, _ in told]
    out["reach"] = [n - first + 1 if first else 0 for _, n, first in told]
    return out


def fresh(mark: SourceMark, *told: tuple[int, int]) -> list[bool]:
    """Give item events of one source to a mark."""
    return new_item_events(events_of([(7, *event) for event in told]), {7: mark}, SourceMark).tolist()


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


told_events = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 20)).map(
        lambda told: (told[0], told[1], min(told[2], told[1]))
    ),
    max_size=40,
)


@given(told_events, st.integers(0, 40))
def test_sources_have_marks_of_their_own(told: list[Told], cut: int) -> None:
    marks: dict[int, SourceMark] = {}
    found = [new_item_events(events_of(part), marks, SourceMark) for part in (told[:cut], told[cut:])]
    plain: dict[int, SourceMark] = {}
    assert np.concatenate(found).tolist() == [is_new(plain, *event) for event in told]
    assert marks == plain


def is_new(marks: dict[int, SourceMark], source: int, number: int, first: int) -> bool:
    mark = marks.setdefault(source, SourceMark())
    if first and first <= mark.mark and first != mark.first:
        return False
    mark.first = first or mark.first
    mark.mark, before = max(mark.mark, number), mark.mark
    return number > before
