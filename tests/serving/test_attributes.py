"""Category and creator alone are what the whole catalogue knows of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import item

from headrace.serving import attributes as module
from headrace.serving.attributes import ItemAttributes
from headrace.serving.catalog import Catalog
from headrace.streams.errors import RejectedError
from headrace.streams.messages.ids import hash64, hash_many


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "news", "sport"]), st.booleans())))
def test_the_same_as_the_catalogue(steps: list[tuple[int, str, bool]]) -> None:
    small, whole = ItemAttributes(), Catalog()
    for n, category, gone in steps:
        for one in (small, whole):
            if gone:
                one.drop_many([f"i{n}"])
            else:
                one.put_many([item(n, category=category, creator_id=category[:2])])
    assert len(small) == len(whole)
    for got, wanted in zip(
        small.attributes(hash_many([f"i{n}" for n in range(11)])),
        whole.attributes(hash_many([f"i{n}" for n in range(11)])),
        strict=True,
    ):
        np.testing.assert_array_equal(got, wanted)


def test_another_item_with_the_same_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def clashing(texts: Any) -> Any:
        return hash_many(["i1" if text == "i9" else text for text in texts])

    monkeypatch.setattr(module, "hash_many", clashing)
    known = ItemAttributes()
    key = int(known.put_many([item(1)])[0])
    for change in (lambda: known.put_many([item(9)]), lambda: known.drop_many(["i9"])):
        with pytest.raises(RejectedError, match=r"hash of 'i9' is that of another item") as refused:
            change()
        assert refused.value.reason == "id_collision"
    with pytest.raises(RejectedError, match=r"'i9'"):
        known.check_id(key, "i9")
    known.check_id(key, "i1")
    known.check_id(hash64("i2"), "i2")
    with pytest.raises(RejectedError, match=r"'i9'"):
        ItemAttributes().put_many([item(1), item(9)])
    assert len(known) == 1


def test_it_takes_little_memory() -> None:
    known = ItemAttributes()
    for at in range(0, 100_000, 5000):
        known.put_many([item(n, title="", tags=[]) for n in range(at, at + 5000)])
    assert known.nbytes / len(known) < 80
