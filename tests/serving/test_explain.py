from __future__ import annotations

from strategies import T0
from worlds import World, item, request

from headrace.serving.explain import why
from headrace.serving.retriever import Pool
from headrace.serving.sources.names import SOURCES
from headrace.serving.sources.neighbours import Anchors
from headrace.streams.settings import HOUR_MS


def made() -> tuple[Pool, World]:
    world = World(3)
    pool = world.recommender.retriever.gather(
        Anchors(), [], exclude=[], country=0, age=-1, now=T0, limit=3, wanted=3
    )
    return pool, world


def test_there_is_always_a_reason() -> None:
    pool, world = made()
    for mask in range(1 << len(SOURCES)):
        pool.mask[:] = mask
        for explored in (False, True):
            reasons = why(pool, 0, explored, Anchors(), world.recommender.catalog, set())
            assert reasons
            assert all(reasons)
            assert len(set(reasons)) == len(reasons)


def test_reasons_are_those_of_the_sources() -> None:
    world = World(6)
    world.publish(item(2, title="The great flood"))
    for n in range(3):
        world.session(f"u{n}", [2, 3], T0 - 2 * HOUR_MS + n)
    world.click("me", 2, T0)
    reply = world.answer(request("me", explain=True, n=10)).reply
    by_id = {i.item_id: i for i in reply.items}
    assert "often opened after “The great flood”" in (by_id["i3"].why or [])
    assert "read together with “The great flood”" in (by_id["i3"].why or [])
    for shown in reply.items:
        text = " ".join(shown.why or [])
        assert ("popular in the last hour" in text) == ("trending" in shown.sources)
        assert ("just published" in text) == ("new" in shown.sources)
        assert ("similar to" in text) == ("hot" in shown.sources)
        assert ("often opened after" in text) == ("next" in shown.sources)
        assert ("popular in your country" in text) == ("country" in shown.sources)


def test_popular_ever_is_not_called_popular_now() -> None:
    world = World(3)
    world.click("somebody else", 1, T0 - 5 * HOUR_MS)
    (shown,) = [i for i in world.answer(request(explain=True)).reply.items if i.item_id == "i1"]
    assert "popular in the last hour" not in (shown.why or [])


def test_the_strongest_anchor_is_named() -> None:
    world = World(9)
    world.publish(item(1, title="First"))
    world.publish(item(2, title="Second"))
    world.session("a", [1, 5], T0 - 3 * HOUR_MS)
    for n in range(4):
        world.session(f"b{n}", [2, 5], T0 - 3 * HOUR_MS)
    world.session("me", [2, 1], T0)
    reply = world.answer(request("me", explain=True)).reply
    (shown,) = [i for i in reply.items if i.item_id == "i5"]
    assert "often opened after “Second”" in (shown.why or [])


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
        reply = world.answer(request(f"me{anchor}", explain=True)).reply
        (shown,) = [i for i in reply.items if i.item_id == "i0"]
        quoted = "“" + ("x" * 60 if anchor == 1 else "i2") + "”"
        assert any(quoted in w for w in shown.why or [])


def test_who_does_not_ask_is_not_told() -> None:
    world = World(3)
    assert all(i.why is None for i in world.answer(request()).reply.items)
