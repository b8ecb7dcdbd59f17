"""Which ranker is in use: the steps of a rollout, and what readers of the topic make of the records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.models.learning import pointers, ranker
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.shelf import MOST_OTHERS, Shelf
from headrace.streams.errors import ArtefactError


def record(key: bytes, value: bytes | None) -> Any:
    return SimpleNamespace(key=key, value=value)


def pointed(p: Pointers) -> Any:
    return record(pointers.KEY, pointers.encode(p))


def text(version: str, value: bytes | None = b"x") -> Any:
    return record(pointers.text_key(version), value)


def test_the_first_ranker_is_live_at_once_and_the_next_is_tried() -> None:
    p = pointers.offered(Pointers(), "a", 1, "trainer")
    assert (p.number, p.live, p.candidate) == (1, "a", "")
    p = pointers.offered(p, "b", 2, "trainer")
    assert (p.live, p.candidate, p.share, p.stage_ts, p.began_ts) == ("a", "b", 0, 2, 0)
    assert pointers.offered(p, "b", 3, "trainer") is p
    assert pointers.offered(p, "a", 3, "trainer") is p


@pytest.mark.parametrize("most", [1, 3])
def test_what_comes_after_one_that_nobody_can_use_is_live_at_once(most: int) -> None:
    p = pointers.offered(pointers.offered(Pointers(), "a", 1, "t"), "b", 2, "t")
    assert pointers.offered(p, "c", 3, "t", most=most, unfit="other").live == "a"
    p = pointers.offered(p, "c", 3, "t", most=most, unfit="a")
    assert (p.live, p.previous, p.candidates()) == ("c", "a", [])


def test_a_candidate_goes_step_by_step_and_is_live_in_the_end() -> None:
    p = pointers.offered(pointers.offered(Pointers(), "a", 1, "t"), "b", 2, "t")
    name, shares = p.rollout, []
    for now in (10, 20, 30):
        p = pointers.promoted(p, now, "rollout", "better")
        shares.append((p.share, p.began_ts, p.stage_ts, p.live, p.rollout))
    assert shares == [(1, 10, 10, "a", name), (10, 10, 20, "a", name), (50, 10, 30, "a", name)]
    p = pointers.promoted(p, 40, "rollout", "better")
    assert (p.live, p.previous, p.candidate, p.share, p.rollout) == ("b", "a", "", 0, "")
    with pytest.raises(ArtefactError, match="no candidate"):
        pointers.promoted(p, 50, "rollout", "better")


def test_a_newer_one_replaces_a_shadow_but_waits_for_what_users_see() -> None:
    p = pointers.offered(pointers.offered(Pointers(), "a", 1, "t"), "b", 2, "t")
    assert pointers.offered(p, "c", 3, "t").candidate == "c"
    p = pointers.promoted(p, 4, "rollout", "")
    for version in "cd":
        p = pointers.offered(p, version, 5, "t")
    assert (p.candidate, p.share, p.waiting) == ("b", 1, "d")
    back = pointers.rolled_back(p, 6, "rollout", "worse")
    assert (back.live, back.candidate, back.share, back.waiting) == ("a", "d", 0, "")
    assert back.rollout != p.rollout
    for now in (7, 8, 9):
        p = pointers.promoted(p, now, "rollout", "")
    assert (p.live, p.previous, p.candidate, p.share) == ("b", "a", "d", 0)


def test_going_back_ends_a_rollout_or_takes_the_previous_one() -> None:
    p = pointers.offered(Pointers(), "a", 1, "t")
    with pytest.raises(ArtefactError, match="go back"):
        pointers.rolled_back(p, 2, "operator", "")
    p = pointers.made_live(p, "b", 3, "operator", "")
    p = pointers.offered(p, "c", 4, "t")
    p = pointers.rolled_back(p, 5, "operator", "")
    assert (p.live, p.previous, p.candidate) == ("b", "a", "")
    p = pointers.rolled_back(p, 6, "operator", "")
    assert (p.live, p.previous) == ("a", "b")
    assert p.number == 5


def several(*versions: str) -> Pointers:
    p = pointers.offered(Pointers(), "live", 0, "t")
    for now, version in enumerate(versions):
        p = pointers.offered(p, version, now, "t", most=3)
    return p


def test_several_are_tried_beside_each_other_and_the_oldest_that_waits_makes_room() -> None:
    p = several("a", "b", "c")
    assert (p.candidates(), [p.since(v) for v in "abc"], p.named()) == (
        ["a", "b", "c"],
        [0, 1, 2],
        {"live", *"abc"},
    )
    assert pointers.offered(p, "b", 9, "t", most=3) is p
    p = pointers.offered(p, "d", 9, "t", most=3)
    assert (p.candidates(), p.stage_ts, p.rollout) == (["a", "c", "d"], 0, several("a").rollout)
    p = pointers.promoted(p, 10, "rollout", "")
    p = pointers.offered(p, "e", 11, "t", most=3)
    assert (p.candidate, p.share, p.candidates()) == ("a", 1, ["a", "d", "e"])
    assert pointers.offered(p, "f", 12, "t", most=2).candidates() == ["a", "f"], "fewer are wanted now"


def test_any_of_them_goes_further_and_the_others_wait_and_begin_again() -> None:
    shadow = several("a", "b", "c")
    p = pointers.promoted(shadow, 10, "rollout", "the best", "b")
    assert (p.candidate, p.share, p.candidates(), p.stage_ts) == ("b", 1, ["b", "a", "c"], 10)
    assert p.rollout != shadow.rollout
    with pytest.raises(ArtefactError, match="users see b"):
        pointers.promoted(p, 11, "operator", "", "c")
    with pytest.raises(ArtefactError, match="no candidate"):
        pointers.promoted(p, 11, "operator", "", "x")
    back = pointers.rolled_back(p, 20, "rollout", "worse")
    assert (back.live, back.share, back.candidates(), back.since("c")) == ("live", 0, ["a", "c"], 20)
    for now in (30, 40, 50):
        p = pointers.promoted(p, now, "rollout", "better")
    assert (p.live, p.previous, p.share, p.candidates(), p.stage_ts) == ("b", "live", 0, ["a", "c"], 50)
    assert pointers.made_live(p, "z", 60, "operator", "").candidates() == []


def test_one_of_the_others_goes_and_the_stage_goes_on() -> None:
    p = pointers.promoted(several("a", "b", "c"), 10, "rollout", "")
    out = pointers.rolled_back(p, 11, "operator", "a mistake", "b")
    assert (out.candidates(), out.share, out.rollout, out.stage_ts) == (["a", "c"], 1, p.rollout, 10)
    with pytest.raises(ArtefactError, match="no candidate"):
        pointers.rolled_back(out, 12, "operator", "", "b")
    last = pointers.rolled_back(pointers.rolled_back(out, 13, "t", ""), 14, "t", "")
    assert (last.live, last.candidates()) == ("live", [])


def test_a_record_of_one_candidate_is_still_read() -> None:
    old = b'{"number":4,"live":"a","candidate":"b","share":1,"rollout":"b-2","stage_ts":8,"waiting":"c"}'
    p = pointers.decode(old)
    assert (p.candidates(), p.waiting, p.others) == (["b"], "c", ())
    assert b"others" not in pointers.encode(p)
    p = pointers.offered(p, "d", 9, "t", most=3)
    assert pointers.rolled_back(p, 10, "t", "").candidates() == ["d", "c"]


def test_a_record_says_the_same_after_it_was_read() -> None:
    p = several("a", "b", "c")
    assert pointers.decode(pointers.encode(p)) == p
    p = Pointers(3, "a", "b", "c", 10, "c-3", 7, 8, "d", "operator", "why")
    assert pointers.decode(pointers.encode(p)) == p
    for bad in (b"{", b"[]", b'{"share": 7}', b'{"live": 3}', b"\xff"):
        with pytest.raises(ArtefactError, match="pointers"):
            pointers.decode(bad)


def test_of_two_writers_the_first_counts_and_the_record_is_known_to_be_the_wrong_one() -> None:
    shelf = Shelf()
    shelf.apply([pointed(Pointers(1, "a")), pointed(Pointers(2, "b")), pointed(Pointers(2, "c"))])
    assert shelf.pointers.live == "b"
    assert shelf.overwritten
    shelf.apply([pointed(Pointers(3, "b"))])
    assert not shelf.overwritten
    shelf.apply([pointed(Pointers(3, "b"))])
    assert not shelf.overwritten, "the same record twice is no other one"


def test_a_topic_of_an_older_version_has_a_live_ranker(trained: Ranker) -> None:
    value, version = ranker.encode(trained.text, 5, {})
    shelf = Shelf()
    assert shelf.apply([record(b"ranker", value), record(b"online", b"x"), record(b"ranker", None)])
    assert shelf.pointers == Pointers(live=version)
    assert shelf.texts == {version: value}
    shelf.apply([pointed(Pointers(1, "b")), record(b"ranker", value)])
    assert shelf.pointers.live == "b", "pointers count from the first of them on"


def test_texts_that_nothing_points_at_take_a_bounded_space() -> None:
    shelf = Shelf()
    shelf.apply([text("live"), pointed(Pointers(1, "live"))])
    for n in range(30):
        shelf.apply([text(f"v{n}")])
    assert list(shelf.texts) == ["live", *(f"v{n}" for n in range(30 - MOST_OTHERS, 30))]
    shelf.apply([text("v29", None), pointed(Pointers(2, "v28", "live"))])
    assert shelf.unused() == ["v26", "v27"]
