"""Merging the lists of the sources: the compiled merge is the plain one, to the bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.pipeline.merge import Proposals
from headrace.serving.pipeline.merging import merge_lists, strongest_of

GAIN = 1 / (61.0 + np.arange(10_000))
_KEYS = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 2**64 - 1)), max_size=40)
LISTS = st.lists(st.tuples(st.integers(0, 31), _KEYS), max_size=12)


def plain(lists: list[npt.NDArray[np.uint64]], sources: list[int], first: int) -> tuple[list[int], ...]:
    """Merge key by key."""
    masks: dict[int, int] = {}
    strengths: dict[int, float] = {}
    leading: set[int] = set()
    for source, keys in zip(sources, lists, strict=True):
        for place, key in enumerate(keys.tolist()):
            masks[key] = masks.get(key, 0) | 1 << source
            strengths[key] = strengths.get(key, 0.0) + float(GAIN[place])
            if place < first:
                leading.add(key)
    order = sorted(masks)
    return order, [masks[k] for k in order], [strengths[k] + (k in leading) for k in order]


@given(LISTS, st.integers(0, 200))
def test_the_merge_is_the_plain_one(given_lists: list[tuple[int, list[int]]], limit: int) -> None:
    proposals = Proposals()
    for source, keys in given_lists:
        proposals.add(source, np.array(keys, np.uint64))
    found = proposals.merged(limit)
    first = limit // (2 * max(1, len(proposals.keys)))
    assert tuple(part.tolist() for part in found) == plain(proposals.keys, proposals.sources, first)
    assert [part.dtype for part in found] == [np.uint64, np.uint32, np.float64]


def test_a_source_has_a_bit() -> None:
    with pytest.raises(ValueError, match="each from 0 to 31"):
        merge_lists([np.ones(1, np.uint64)], [32], GAIN, 1)


def test_no_list_is_longer_than_the_gains() -> None:
    with pytest.raises(ValueError, match="a list of 3 keys, 2 gains"):
        merge_lists([np.ones(3, np.uint64)], [0], GAIN[:2], 1)


def test_keys_that_share_their_upper_bits_are_in_order() -> None:
    """They are ordered by comparing: the passes over the bits do not tell them apart."""
    rng = np.random.default_rng(5)
    few = np.arange(300, dtype=np.uint64)
    keys = rng.permutation(np.concatenate([few, few + np.uint64(2**63)]))
    found, _, _ = merge_lists([keys], [0], GAIN, 1)
    assert found.tolist() == sorted(keys.tolist())


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.sampled_from([0.0, -1.0, 0.5, 2.0, 3.0])))


@given(PAIRS, st.integers(0, 5))
def test_the_strongest_are_those_of_a_stable_sort(pairs: list[tuple[int, int, float]], k: int) -> None:
    pairs.sort(key=lambda pair: pair[0])
    expected = [
        [key for _, key, weight in sorted(of, key=lambda pair: -pair[2]) if weight > 0][:k]
        for of in ([pair for pair in pairs if pair[0] == group] for group in range(6))
    ]
    columns = np.array(pairs, [("group", "<i8"), ("key", "<u8"), ("weight", "<f4")])
    found = strongest_of(columns["group"], columns["key"], columns["weight"], k)
    assert [one.tolist() for one in found] == expected[: pairs[-1][0] + 1 if pairs else 0]


def test_groups_ascend_and_have_a_key_and_a_weight_each() -> None:
    groups, keys, weights = np.array([1, 0]), np.ones(2, np.uint64), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="ascend"):
        strongest_of(groups, keys, weights, 1)
    with pytest.raises(ValueError, match="2 groups, 1 keys, 2 weights"):
        strongest_of(groups, keys[:1], weights, 1)
