"""Many items put at once: the catalogue is as if they had been put one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from strategies import T0

from headrace.serving.catalog import Catalog
from headrace.streams.messages.countries import country_id
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import HOUR_MS

IDS = [f"item-{n}" for n in range(8)]
COUNTRIES = ["BR", "US"]
ITEMS = st.builds(
    Item,
    item_id=st.sampled_from(IDS),
    published_ts=st.integers(0, 3).map(lambda hours: T0 - hours * HOUR_MS),
    title=st.sampled_from(["", "One title of several", "Ein anderer, längerer Titel"]),
    category=st.sampled_from(["", "news", "sport"]),
    creator_id=st.sampled_from(["", "c1", "c2", "c3"]),
    language=st.sampled_from(["", "de"]),
    duration_ms=st.none() | st.integers(1, 9),
    countries=st.lists(st.sampled_from(COUNTRIES), max_size=2),
    blocked_countries=st.lists(st.sampled_from(COUNTRIES), max_size=1),
    min_age=st.integers(0, 18),
    flags=st.lists(st.sampled_from(["adult", "live"]), max_size=2),
    boost=st.sampled_from([0.5, 1.0, 2.0]),
)
BATCHES = st.lists(
    st.tuples(
        st.lists(ITEMS, min_size=1, unique_by=lambda item: item.item_id), st.sets(st.sampled_from(IDS))
    ),
    max_size=4,
)


def told(catalog: Catalog) -> dict[str, object]:
    """Return all that can be asked of the catalogue."""
    keys = hash_many(IDS)
    rows = catalog.find(keys)
    there = keys[rows >= 0]
    out: dict[str, object] = {"there": there.tolist(), "newest": catalog.newest.newest(T0, 9).tolist()}
    for name in ("category", "creator", "language", "published", "duration", "boost", "title", "min_age"):
        out[name] = catalog.column(name, rows[rows >= 0]).tolist()
    for name in ("rules", "blocked"):
        out[name] = catalog.column(name, rows[rows >= 0]).tolist()
    for key in there.tolist():
        allowed = [catalog.allowed_in(key, code) for code in (0, *map(country_id, COUNTRIES))]
        out[str(key)] = catalog.id_of(key), catalog.title_of(key), allowed
    for group in ("news", "sport", "c1", "c2", "c3"):
        key = hash64(group)
        out[group] = (
            catalog.newest.by_category(key, T0, 9).tolist(),
            catalog.newest.by_creator(key, T0, 9).tolist(),
        )
    return out


@given(BATCHES)
def test_as_one_after_the_other(batches: list[tuple[list[Item], set[str]]]) -> None:
    many, each = Catalog(["adult"]), Catalog(["adult"])
    plain = dict[str, Item]()
    for items, gone in batches:
        many.put_many(items)
        many.drop_many(sorted(gone))
        for item in items:
            each.put(item)
        for item_id in gone:
            each.drop(item_id)
        plain = {
            k: v for k, v in {**plain, **{item.item_id: item for item in items}}.items() if k not in gone
        }
        assert told(many) == told(each)
        assert {many.id_of(hash64(k)) for k in plain} == plain.keys()
        for item in plain.values():
            key = hash64(item.item_id)
            assert many.title_of(key, "") == item.title
            assert many.name_of(hash64(item.creator_id)) == item.creator_id
            assert many.name_of(hash64(item.category)) == item.category
            (row,) = many.find(hash_many([item.item_id]))
            assert many.table.data["blocked"][row] == ("adult" in item.flags)
            assert many.table.data["rules"][row] == bool(item.countries or item.blocked_countries)
