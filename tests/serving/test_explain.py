from __future__ import annotations

from pools import gather
from strategies import T0
from worlds import World, here, item, request

from headrace.serving.explain import why
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.rerank.slate import EXPLORED, FRESH, LONG_TAIL
from headrace.streams.settings import HOUR_MS, MINUTE_MS


def said(world: World, user: str, item_id: str, **changes: object) -> str:
    """Return all reasons for an item of a list, in one line."""
    reply = world.answer(request(user, explain=True, n=10, **changes)).reply
    (shown,) = [i for i in reply.items if i.item_id == item_id]
    return "; ".join(shown.why or [])


def test_there_is_always_a_reason() -> None:
    world = World(3)
    pipeline = world.recommender.pipeline
    pool = gather(world, limit=3, wanted=3)
    query = world.recommender.query(request(), None, Anchors(), T0, 3)
    for mask in range(0, 1 << len(pipeline.names), 13):
        pool.mask[:] = mask
        for reason in ("", EXPLORED, FRESH, LONG_TAIL):
            reasons = why(pipeline, query, pool, 0, reason)
            assert reasons
            assert all(reasons)
            assert len(set(reasons)) == len(reasons)


def test_reasons_are_those_of_the_sources() -> None:
    world = World(6)
    world.publish(item(2, title="The great flood"))
    for n in range(3):
        world.session(f"u{n}", [2, 3], T0 - 2 * HOUR_MS + n)
    world.session("v", [2, 4], T0 - 2 * HOUR_MS)
    world.click("me", 2, T0)
    reply = world.answer(request("me", explain=True, n=10)).reply
    by_id = {i.item_id: i for i in reply.items}
    assert "often opened after “The great flood” (75 % of the next clicks)" in (by_id["i3"].why or [])
    assert "read together with “The great flood”" in (by_id["i3"].why or [])
    for shown in reply.items:
        text = " ".join(shown.why or [])
        assert ("popular in the last hour" in text) == ("trending" in shown.sources)
        assert ("just published" in text) == ("new" in shown.sources)
        assert ("similar to" not in text) or ("hot" in shown.sources)
        assert ("often opened after" in text) == ("next" in shown.sources)
        assert ("popular in your country" in text) == ("country" in shown.sources)


def test_the_numbers_are_right() -> None:
    world = World(6)
    world.publish(item(9, published_ts=T0 - 3 * MINUTE_MS))
    for n in range(4):
        world.click(f"u{n}", 1, T0 - 20 * MINUTE_MS, country="BR")
    world.click("v", 1, T0, country="BR")
    everywhere = said(world, "x", "i1")
    assert "popular in the last hour (5 clicks)" in everywhere
    assert "popular today" not in everywhere, "the same clicks are not told twice"
    assert "rising in the last minutes (1 click)" in everywhere
    at_home = said(world, "x", "i1", context=here("BR"))
    assert "popular in your country (5 clicks in the last hour)" in at_home
    assert "just published (3 minutes ago)" in said(world, "x", "i9")


def test_what_is_popular_today_and_not_in_the_last_hour_is_called_that() -> None:
    world = World(3)
    for n in range(3):
        world.click(f"u{n}", 1, T0 - 2 * HOUR_MS)
    text = said(world, "x", "i1")
    assert "popular today (3 clicks in six hours)" in text
    assert "popular in the last hour" not in text


def test_popular_ever_is_not_called_popular_now() -> None:
    world = World(3)
    world.click("somebody else", 1, T0 - 5 * HOUR_MS)
    text = said(world, "x", "i1")
    assert "popular in the last hour" not in text
    assert "popular with everybody (1 click)" in text


def test_the_strongest_anchor_is_named() -> None:
    world = World(9)
    world.publish(item(1, title="First"))
    world.publish(item(2, title="Second"))
    world.session("a", [1, 5], T0 - 3 * HOUR_MS)
    for n in range(4):
        world.session(f"b{n}", [2, 5], T0 - 3 * HOUR_MS)
    world.session("me", [2, 1], T0)
    assert "often opened after “Second”" in said(world, "me", "i5")


def test_taste_is_named_by_its_name() -> None:
    world = World(8)
    for k in range(3):
        world.click("me", 4, T0 - k * 1000, kind="like")  # i4 is of the first category
    reply = world.answer(request("me", explain=True)).reply
    for shown in reply.items:
        n = int(shown.item_id[1:])
        assert ("you like news" in (shown.why or [])) == (n % 4 == 0)


def test_long_titles_are_cut_and_missing_ones_replaced() -> None:
    world = World(3)
    world.publish(item(1, title="x" * 500))
    world.publish(item(2, title=""))
    for anchor in (1, 2):
        world.session(f"u{anchor}", [anchor, 0], T0 - 3 * HOUR_MS)
        world.click(f"me{anchor}", anchor, T0)
        quoted = "“" + ("x" * 60 if anchor == 1 else "i2") + "”"
        assert quoted in said(world, f"me{anchor}", "i0")


def test_who_does_not_ask_is_not_told() -> None:
    world = World(3)
    assert all(i.why is None for i in world.answer(request()).reply.items)


def test_an_old_item_is_not_called_just_published() -> None:
    world = World()
    for n, age_h in enumerate((23, 50)):
        world.publish(item(n, published_ts=T0 - age_h * HOUR_MS))
    assert "just published (23 hours ago)" in said(world, "x", "i0")
    assert "among the newest (2 days ago)" in said(world, "x", "i1")
