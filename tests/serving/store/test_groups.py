"""The groups of rows in a Redis Cluster: their slots, and which row belongs to which."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from headrace.serving.store.groups import GROUPS, HASH_SLOTS, SLOTS, TAGS, by_group, lowest, slot_of

KEYS = st.lists(st.integers(0, 2**64 - 1), unique=True)


def test_each_group_has_a_slot_in_its_part_of_all_slots() -> None:
    width = HASH_SLOTS // GROUPS
    assert [slot // width for slot in SLOTS] == list(range(GROUPS))
    assert [key_slot(f"shop-u:{{{tag}}}:0123".encode()) for tag in TAGS] == SLOTS


def test_the_tags_stay_what_they_are() -> None:
    """Other tags would be other keys: no row would be found."""
    assert TAGS[:8] == ["14", "10", "100", "18", "113", "117", "346", "342"]
    assert slot_of("callers") == key_slot(b"l:{callers}:00")


@given(keys=KEYS)
def test_every_key_is_in_the_group_of_its_last_bits(keys: list[int]) -> None:
    places = by_group(keys)
    assert sorted(i for at in places.values() for i in at.tolist()) == list(range(len(keys)))
    for group, at in places.items():
        assert at.tolist() == sorted(at.tolist())
        assert {keys[i] % GROUPS for i in at.tolist()} == {group}
    same = by_group(np.array(keys, np.uint64))
    assert {group: at.tolist() for group, at in same.items()} == {g: at.tolist() for g, at in places.items()}


def test_a_partition_has_what_all_its_groups_have() -> None:
    assert lowest([5, 3, 9]) == 3
    assert lowest([5, None, 9]) is None
