from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pools import allowed as allowed_rows
from worlds import World, here, item, request

from headrace.serving.catalog import Catalog
from headrace.streams.messages.ids import hash64


@given(
    st.lists(st.sampled_from(["BR", "US", "DE"]), max_size=3),
    st.lists(st.sampled_from(["BR", "US", "DE"]), max_size=3),
    st.integers(0, 99),
    st.sampled_from(["", "BR", "US", "FR"]),
    st.integers(-1, 120),
)
def test_rules(allowed: list[str], blocked: list[str], min_age: int, country: str, age: int) -> None:
    catalog = Catalog()
    key = catalog.put(item(1, countries=allowed, blocked_countries=blocked, min_age=min_age))
    got = bool(allowed_rows(catalog, np.array([catalog.table.row(key)]), hash64(country), age)[0])
    here = country != "" and (not allowed or country in allowed) and country not in blocked
    old_enough = age >= min_age if age >= 0 else min_age == 0
    assert got == (((not allowed and not blocked) or here) and old_enough)


def test_rules_of_many_rows_at_once() -> None:
    catalog = Catalog()
    made = [
        catalog.put(item(n, countries=["BR"] if n % 2 else [], min_age=18 if n % 3 == 0 else 0))
        for n in range(30)
    ]
    rows = catalog.table.find(made)
    assert allowed_rows(catalog, rows, hash64("US"), 20).tolist() == [n % 2 == 0 for n in range(30)]
    assert allowed_rows(catalog, rows, hash64("BR"), 5).tolist() == [n % 3 != 0 for n in range(30)]
    assert allowed_rows(catalog, rows[:0], 0, -1).shape == (0,)


@given(
    st.sampled_from(["DE", "de", "De", "dE"]),
    st.sampled_from(["DE", "de", "De", "dE"]),
    st.sampled_from(["DE", "de", "De", "dE"]),
)
def test_codes_of_two_letters_match_in_any_case(rule: str, profile: str, context: str) -> None:
    world = World()
    world.publish(item("only", countries=[rule]))
    world.publish(item("never", blocked_countries=[rule]))
    world.profile("me", country=profile)
    assert world.shown(request("me")) == ["ionly"]
    assert world.shown(request("nobody", context=here(context))) == ["ionly"]
    assert world.shown(request("me", context=here("fr"))) == ["inever"]


def test_other_texts_match_as_they_are_written() -> None:
    catalog, texts = Catalog(), ["BRA", "bra", "d\u017f"]
    keys = [catalog.put(item(n, countries=[text])) for n, text in enumerate(texts)]
    rows = catalog.table.find(keys)
    for n, text in enumerate(texts):
        assert np.flatnonzero(allowed_rows(catalog, rows, hash64(text), -1)).tolist() == [n]
    assert not allowed_rows(catalog, rows, hash64("DS"), -1).any()
