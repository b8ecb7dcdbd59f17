"""A dict in parts is a dict, and no part of it is large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.catalog import Catalog
from headrace.serving.parted import PARTS, PartedDict
from headrace.streams.messages.schemas import Item

KEYS = st.integers(0, 3) | st.integers(0, 2**64 - 1)


@given(st.lists(st.lists(KEYS, max_size=5), max_size=20))
def test_it_is_a_dict(steps: list[list[int]]) -> None:
    found, plain = PartedDict[str](), dict[int, str]()
    for number, keys in enumerate(steps):
        values = [f"{number}-{at}" for at in range(len(keys))]
        found.put_many(keys, values)
        plain.update(zip(keys, values, strict=True))
        assert len(found) == len(plain)
        for key in {*keys, 0, 1, 7}:
            assert found.get(key, "no") == plain.get(key, "no")


def test_a_change_moves_the_entries_of_one_part_only() -> None:
    catalog = Catalog()
    n = 20 * PARTS
    catalog.put_many([Item(item_id=f"i{k}", title="t", published_ts=1, creator_id=f"c{k}") for k in range(n)])
    sizes = [len(part) for part in catalog._names.parts]
    assert sum(sizes) == n + 1  # and the empty name
    assert max(sizes) <= 3 * n // PARTS
