"""Lists of a category, of creators, in a language, with tags, published lately: full if there are enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapped_catalogs import base_of, write_snapshot
from strategies import T0
from worlds import World, busy, item, request

from headrace.serving.catalog import Catalog
from headrace.serving.fits import fits
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import AnyNone, Filters, Item
from headrace.streams.settings import HOUR_MS, MINUTE_MS

VALUES = ["a", "b", "c"]
LISTS = st.lists(st.sampled_from(VALUES), max_size=2)
WANTED = st.builds(AnyNone, LISTS, LISTS)
FILTERS = st.builds(
    Filters, WANTED, WANTED, WANTED, WANTED, st.sampled_from([None, T0 - 1, T0, T0 + 1, T0 + 3])
)


def plainly(one: Item, asked: Filters) -> bool:
    """Say whether an item fits, as the documentation says it."""

    def ok(has: set[str], named: AnyNone) -> bool:
        return (not named.any or bool(has & set(named.any))) and not has & set(named.none)

    fields = (
        ({one.category}, asked.category),
        ({one.creator_id}, asked.creator),
        ({one.language}, asked.language),
        (set(one.tags), asked.tags),
    )
    after = asked.published_after
    return all(ok(has - {""}, named) for has, named in fields) and (after is None or one.published_ts > after)


def catalogue() -> list[Item]:
    rng = np.random.default_rng(3)
    some = ["", *VALUES]
    return [
        Item(
            item_id=f"i{n}",
            published_ts=T0 + int(rng.integers(5)),
            title="tag a b c" if n % 3 else "",
            category=str(rng.choice(some)),
            creator_id=str(rng.choice(some)),
            language=str(rng.choice(some)),
            tags=[str(tag) for tag in rng.choice(VALUES, int(rng.integers(4)), replace=False)],
        )
        for n in range(300)
    ]


ITEMS = catalogue()


@pytest.fixture(scope="module", params=["memory", "mapped", "both"])
def world(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    out, mapped = Catalog(), {"memory": 0, "mapped": 300, "both": 200}[request.param]
    if mapped:
        path = tmp_path_factory.mktemp("catalogue")
        write_snapshot(path, ITEMS[:mapped], {0: mapped})
        out.begin_swap()
        out.swap(base_of(path))
    for one in ITEMS[mapped:]:
        out.put(one)
    for one in ITEMS[:20]:  # changed since
        out.put(one)
    return out


@given(asked=FILTERS)
def test_an_item_fits_as_the_documentation_says(world: Catalog, asked: Filters) -> None:
    keys = np.sort(hash_many([one.item_id for one in ITEMS]))
    by_key = {int(hash_many([one.item_id])[0]): one for one in ITEMS}
    found = fits(world, asked, keys, world.find(keys))
    assert found.tolist() == [plainly(by_key[key], asked) for key in keys.tolist()]


def narrow(extra: int = 15) -> World:
    """Return a busy world, with some old items nobody has clicked, of a category of their own."""
    world = busy()
    for n in range(1000, 1000 + extra):
        old = T0 - 900 * HOUR_MS - n * MINUTE_MS
        world.publish(item(n, category="chess", creator_id=f"m{n % 3}", published_ts=old))
    return world


def chess(**more: Any) -> Filters:
    return Filters(category=AnyNone(["chess"]), **more)


def test_a_narrow_filter_still_fills_the_list() -> None:
    answer = narrow().answer(request("u1", n=10, filters=chess()))
    assert {int(i.item_id[1:]) // 1000 for i in answer.reply.items} == {1}
    assert len(answer.reply.items) == 10
    assert all("filtered" in i.sources for i in answer.reply.items)
    assert "candidates" not in answer.reply.degraded


def test_the_popular_list_is_filtered_too() -> None:
    found = narrow().recommender.popular(request("u1", n=10, filters=chess()), T0, "deadline").reply
    assert len(found.items) == 10
    assert {int(i.item_id[1:]) // 1000 for i in found.items} == {1}


def test_what_does_not_fit_never_fills_a_list_up() -> None:
    world = narrow()
    short = world.answer(request("u1", n=10, filters=chess(creator=AnyNone(["m0"])))).reply
    assert len(short.items) == 5
    none = world.answer(request("u1", n=10, filters=chess(creator=AnyNone(none=["m0", "m1", "m2"])))).reply
    assert (none.items, "candidates" in none.degraded) == ([], True)
    assert world.answer(request("u1", n=10, filters=chess(), seen=["i1000"])).reply.items


def test_it_is_counted() -> None:
    world = narrow()
    world.shown(request("u1", n=10, filters=chess()))
    counts = world.recommender.pipeline.counts()["filter:asked"]
    assert counts.kept == 15
    assert counts.given > 60


def test_who_asks_for_a_language_gets_it_whatever_the_profile_says() -> None:
    world = World()
    for n in range(6):
        world.publish(item(n, language="de" if n % 2 else "en"))
    world.profile("u", language="en")
    assert set(world.shown(request("u"))) == {"i0", "i2", "i4"}
    assert set(world.shown(request("u", filters=Filters(language=AnyNone(["de"]))))) == {"i1", "i3", "i5"}
    assert set(world.shown(request("u", filters=Filters(language=AnyNone(none=["de"]))))) == {
        "i0",
        "i2",
        "i4",
    }


def test_popular_items_that_fit_are_proposed_before_new_ones() -> None:
    world = busy()
    for _ in range(40):
        world.click("somebody", 8, T0)
    world.recommender.tick(T0 + 5000)
    asked = Filters(tags=AnyNone(["t8"]))
    ids = [
        i.item_id for i in world.recommender.popular(request(n=5, filters=asked), T0, "deadline").reply.items
    ]
    assert ids[0] == "i8"
    assert set(ids) <= {"i8", "i19", "i30", "i41", "i52"}
