"""In which partition a record belongs, and where it was sent on from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.placement import CLEARS, FORWARDED, Origin, misplaced, only_clears, origin_of
from headrace.streams.topics.producers import Placement


def record(key: bytes | None = b"k", headers: Any = ()) -> Any:
    return SimpleNamespace(key=key, headers=headers)


@given(st.lists(st.binary(min_size=1, max_size=70)), st.integers(1, 10_000))
def test_partitions_are_those_of_kafkas_default_partitioner(
    keys: list[bytes | None], partitions: int
) -> None:
    expected = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert partitions_of_keys(keys, partitions).tolist() == expected


def test_a_record_without_a_key_is_misplaced_everywhere() -> None:
    assert partitions_of_keys([None, b""], 3).tolist() == [-1, -1]
    right = (murmur2(b"user-1") & 0x7FFFFFFF) % 4
    records = [record(b"user-1"), record(None), record(b"")]
    assert misplaced(records, right, 4).tolist() == [False, True, True]
    assert misplaced(records, (right + 1) % 4, 4).all()
    with pytest.raises(ValueError, match="0 partitions"):
        partitions_of_keys([b"k"], 0)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.integers(0, 99),
    st.integers(0, 10**18 - 1),
)
def test_the_header_says_where_a_record_came_from(topic: str, partition: int, offset: int) -> None:
    origin = Origin(topic, partition, offset)
    assert origin_of(record(headers=[("trace", b"x"), origin.header()])) == origin


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"events",
        b"events/1",
        b"events/x/1",
        b"events/1/-5",
        b"/1/5",
        b"\xff/1",
        None,
        b"events/1/" + b"9" * 19,
        b"events/" + b"9" * 19 + b"/1",  # an offset has 64 bits
    ],
)
def test_a_header_that_is_not_ours_says_nothing(value: bytes | None) -> None:
    assert origin_of(record(headers=[(FORWARDED, value)])) is None
    assert origin_of(record(headers=[("other", b"events/1/5")])) is None


def test_a_null_that_only_hides_an_older_record_is_no_mistake_of_a_producer() -> None:
    wrong = (murmur2(b"k") & 0x7FFFFFFF) % 4 ^ 1
    null, hides = (
        SimpleNamespace(key=b"k", value=None, headers=headers, partition=wrong)
        for headers in ([], [("trace", b"x"), (CLEARS, b"1")])
    )
    profile = SimpleNamespace(key=b"k", value=b"{}", headers=hides.headers, partition=wrong)
    assert [only_clears(one) for one in (null, hides, profile)] == [False, True, False]
    found = Placement("users", 4)
    for one in (null, hides, profile):
        found.add(one)
    assert (found.records, found.wrong) == (2, 2)
