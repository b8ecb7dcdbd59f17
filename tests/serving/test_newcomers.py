"""What users and items without a history get: by age group, by Thompson sampling, with known chances."""

from __future__ import annotations

from collections import Counter

import numpy as np
from strategies import T0
from worlds import CATEGORIES, World, item, request

from headrace.serving.policy import Policy
from headrace.serving.rerank.rules import Rules
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Context
from headrace.streams.settings import HOUR_MS, MINUTE_MS

ITEMS = 80
PLAIN = Rules(epsilon=0, fresh_share=0)


def look(world: World, items: list[int], clicked: list[int], country: str = "", group: int = 0) -> None:
    """Let somebody see items and click some of them."""
    for kind, those in (("shown", items), ("click", clicked)):
        out = np.zeros(len(those), ITEM_EVENT)
        out["item"], out["kind"] = hash_many([f"i{n}" for n in those]), KIND[kind]
        out["country"], out["age_group"], out["ts"], out["amount"] = hash64(country), group, T0 - 1000, 1
        world._offset += 1
        rows, places = world.recommender.stats.apply(out, np.full(len(out), world._offset))
        world.recommender.trending.changed(rows)
        world.recommender.trending.countries_changed(places)


def seen(rules: Rules = PLAIN) -> World:
    """Return a world whose items were all shown equally often, every tenth time with a click."""
    world = World(ITEMS, Policy(rules=rules))
    for n in range(10):
        look(world, list(range(ITEMS)), [k for k in range(ITEMS) if k % 10 == n])
    return world


def first(world: World, number: int, **context: object) -> list[str]:
    asked = request(f"new{number}", request_id=f"q{number}", n=10, context=Context(**context))  # type: ignore[arg-type]
    return world.shown(asked)[:5]


def category(item_id: str) -> str:
    return CATEGORIES[int(item_id[1:]) % len(CATEGORIES)]


def test_an_age_group_gets_what_is_popular_there_and_others_do_not() -> None:
    world = World(ITEMS)
    for n in range(40):
        world.click(f"young{n}", n % 4, T0 - MINUTE_MS, "BR", age=20)
        world.click(f"old{n}", 4 + n % 4, T0 - MINUTE_MS, "BR", age=70)
    lists = {}
    for name, age in (("young", 22), ("old", 66), ("unknown", None), ("other", 40)):
        asked = request(name, n=20, explain=True, context=Context(country="BR", age=age))
        lists[name] = world.answer(asked).reply.items
    for name, own in (("young", {f"i{n}" for n in range(4)}), ("old", {f"i{n}" for n in range(4, 8)})):
        proposed = {i.item_id for i in lists[name] if "age_group" in i.sources}
        assert proposed == own
        why = next(i.why for i in lists[name] if "age_group" in i.sources)
        assert "popular with people of your age in your country (10 clicks in the last hour)" in (why or [])
    for name in ("unknown", "other"):  # what the country reads is still there
        assert not any("age_group" in i.sources for i in lists[name])
        assert sum("country" in i.sources for i in lists[name]) == 8


def test_the_age_of_the_profile_counts_before_that_of_the_request() -> None:
    world = World(ITEMS)
    for n in range(8):
        world.click(f"young{n}", 1, T0 - MINUTE_MS, "BR", age=20)
    world.profile("u", country="BR", age=19)
    answer = world.answer(request("u", n=20, context=Context(age=90)))
    assert any("age_group" in i.sources for i in answer.reply.items)
    assert answer.impression is not None
    assert answer.impression.age_group == 2


def test_two_users_of_whom_nothing_is_known_get_different_lists_of_several_categories() -> None:
    world = seen()
    lists = [first(world, n) for n in range(12)]
    assert len({tuple(listed) for listed in lists}) >= 10
    for listed in lists:
        assert {category(i) for i in listed[:4]} == set(CATEGORIES)
    assert first(world, 3) == lists[3], "the same request gets the same list"


def test_why_a_first_slot_has_its_item() -> None:
    world = seen()
    answer = world.answer(request("nobody", n=10, explain=True))
    n = Rules().welcome
    told = [i for i in answer.reply.items[:n] if i.explored]
    assert told
    assert all("we do not know your taste yet" in (i.why or [""])[0] for i in told)
    assert all(0 < i.propensity < 1 for i in answer.reply.items[:n])
    assert all(i.propensity == 1 for i in answer.reply.items[n:])


def test_new_users_teach_the_next_new_user_of_their_place() -> None:
    """In Brazil, those from 18 to 24 want sport; in the Netherlands, they want music."""
    world, wanted = seen(), {"BR": "sport", "NL": "music"}
    for n in range(40):
        listed = [(7 * n + k) % ITEMS for k in range(12)]
        for country, name in wanted.items():
            look(world, listed, [k for k in listed if category(f"i{k}") == name], country, 2)
    for country, name in wanted.items():
        tops = Counter(category(first(world, n, country=country, age=20)[0]) for n in range(60))
        assert tops[name] > 45, (country, tops)


def test_three_clicks_of_a_new_user_end_the_welcome_and_turn_the_list() -> None:
    world = seen()
    asked = request("u", n=10, explain=True)
    before = world.answer(asked).reply.items
    assert any(i.explored for i in before)
    world.session("u", [1, 5, 9], T0 - 5000)  # sport
    after = world.answer(asked).reply.items
    assert not any(i.explored for i in after)
    assert [i.item_id for i in after] != [i.item_id for i in before]
    count = [sum(category(i.item_id) == "sport" for i in listed) for listed in (before, after)]
    assert count[1] > count[0]


def test_who_has_preferences_or_asks_for_related_items_is_no_newcomer() -> None:
    world = seen()
    world.profile("u", preferred_categories=["music"])
    asked = [request("u", n=10), request("nobody", surface="related", item_id="i3", n=10)]
    for one in asked:
        assert not any(i.explored for i in world.answer(one).reply.items)
    assert any(i.explored for i in world.answer(request("nobody", n=10)).reply.items)


def test_a_new_item_is_tried_sooner_when_its_category_is_clicked_more() -> None:
    """Two new items without an event: the slot for new items goes to the one from the better category."""
    counts: dict[bool, Counter[str]] = {}
    for known in (True, False):
        world = World(ITEMS, Policy(rules=Rules(epsilon=0, fresh_share=0.1, welcome=0, fresh_prior=known)))
        old = {"published_ts": T0 - 50 * HOUR_MS}
        for n in range(ITEMS):
            world.publish(item(n, creator_id="", **old))
        for n in range(ITEMS):
            good = category(f"i{n}") == "music"
            for k in range(30):
                look(world, [n], [n] if good and k % 3 == 0 else [])
        for name in ("music", "news"):
            world.publish(item(f"new-{name}", category=name, creator_id="", published_ts=T0 - 1000))
        counts[known] = Counter()
        for n in range(60):
            listed = world.answer(request(f"u{n}", request_id=f"q{n}", n=10)).reply.items
            fresh = [i for i in listed if i.item_id.startswith("inew")]
            counts[known].update(i.item_id for i in fresh if 0 < i.propensity < 1)
    assert counts[True]["inew-music"] > 45
    assert 10 < counts[False]["inew-music"] < 50
