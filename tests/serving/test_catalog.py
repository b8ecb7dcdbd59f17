from __future__ import annotations

import numpy as np
import pytest
from pools import allowed as allowed_rows
from worlds import item

from headrace.models.embeddings import item_vector
from headrace.serving.catalog import Catalog
from headrace.streams.messages.ids import hash64


def keys(*ids: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([hash64(i) for i in ids], np.uint64)


def test_an_item_and_what_is_known_of_it() -> None:
    catalog = Catalog()
    key = catalog.put(item(1, category="sport", creator_id="ana", title="A goal"))
    assert key == hash64("i1")
    assert (catalog.id_of(key), catalog.title_of(key)) == ("i1", "A goal")
    assert catalog.name_of(hash64("sport")) == "sport"
    assert catalog.name_of(hash64("ana")) == "ana"
    category, creator = catalog.attributes(keys("i1", "nobody"))
    assert category.tolist() == [hash64("sport"), 0]
    assert creator.tolist() == [hash64("ana"), 0]
    np.testing.assert_array_equal(
        catalog.vector(key), item_vector(item(1, category="sport", creator_id="ana", title="A goal"))
    )


def test_unknown_items() -> None:
    catalog = Catalog()
    assert catalog.vector(5) is None
    assert catalog.title_of(5) == "an item"
    assert catalog.name_of(5) == ""
    assert len(catalog) == 0, "asking must not add"
    catalog.drop("nobody")


def test_an_item_without_title_or_content() -> None:
    catalog = Catalog()
    key = catalog.put(item(1, title="", category="", creator_id="", tags=[]))
    assert catalog.title_of(key) == "i1"
    assert catalog.vector(key) is None


def test_a_new_version_replaces_the_old_one_whole() -> None:
    catalog = Catalog()
    key = catalog.put(item(1, countries=["BR"], blocked_countries=["US"], min_age=18, boost=3.0))
    assert catalog.put(item(1, category="film")) == key
    row = catalog.table.row(key)
    assert catalog.table.data["boost"][row] == 1
    assert catalog.table.data["category"][row] == hash64("film")
    assert allowed_rows(catalog, np.array([row]), 0, -1).all(), "the rules of the old version are gone"
    assert len(catalog) == 1


def test_rules_of_the_old_version_do_not_mix_with_the_new() -> None:
    catalog = Catalog()
    catalog.put(item(1, blocked_countries=["US"]))
    key = catalog.put(item(1, countries=["US"]))
    row = np.array([catalog.table.row(key)])
    assert allowed_rows(catalog, row, hash64("US"), -1).all()
    catalog.put(item(1, blocked_countries=["BR"]))
    assert allowed_rows(catalog, row, hash64("DE"), -1).all()
    assert not allowed_rows(catalog, row, hash64("BR"), -1).any()


def test_a_withdrawn_item_is_forgotten() -> None:
    catalog = Catalog()
    key = catalog.put(item(1, countries=["BR"]))
    assert catalog.drop("i1") == key
    assert len(catalog) == 0
    assert catalog.vector(key) is None
    assert catalog.title_of(key) == "an item"
    again = catalog.put(item(1))
    assert allowed_rows(catalog, np.array([catalog.table.row(again)]), 0, -1).all()


def test_ids_of_what_is_gone_are_an_error() -> None:
    with pytest.raises(KeyError):
        Catalog().id_of(7)
