"""The benchmark of candidates counts every next click once: found, or lost for a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path

import pytest
from bench_candidates import Candidates, Lists
from retrieval.session_knn import SessionKnn

from headrace.streams.messages.files import Click
from headrace.streams.settings import HOUR_MS

_TIMES = count(1_506_800_000_000, 1000)


#: More items than a list needs: with fewer, what rests comes back.
_MANY = [f"i{k}" for k in range(100)]


def session(name: str, items: Iterable[str], user: str = "") -> Iterator[Click]:
    """Return a session of clicks."""
    for item in items:
        yield Click(user or f"user of {name}", name, item, next(_TIMES), "1", "20")


def run(folder: Path, limit: int, parts: dict[str, str], *sessions: Iterator[Click]) -> Candidates:
    """Return the benchmark after these sessions."""
    loop = Candidates(folder, parts, limit)
    for click in chain(*sessions):
        loop.step(click)
    return loop


def test_first_clicks_and_what_the_user_clicked_before_are_no_candidates(tmp_path: Path) -> None:
    many = (session(item, [item]) for item in _MANY)
    loop = run(
        tmp_path, 500, {}, *many, session("1", "ab"), session("2", "ab"), session("3", "ca", "user of 1")
    )
    assert (loop.predictions, loop.found) == (3, 1)
    assert loop.lost == {"no_item": 1, "rests": 1}
    report = loop.report()
    assert report["lost"] == {"no_item": 0.3333, "rests": 0.3333, "cut": 0.0, "not_proposed": 0.0}
    assert report["candidate_recall"] == 0.3333


def test_what_is_weaker_than_the_limit_allows_is_cut(tmp_path: Path) -> None:
    often = (session(f"often {k}", _MANY[:50]) for k in range(2))
    loop = run(tmp_path, 20, {}, session("once", "z"), *often)
    before = loop.lost["cut"]
    for click in session("late", [_MANY[0], "z"]):
        loop.step(click)
    assert loop.lost["cut"] == before + 1
    assert loop.found + sum(loop.lost.values()) == loop.predictions


def test_session_knn_proposes_what_came_near_in_other_sessions() -> None:
    knn = SessionKnn()
    for click in chain(session("1", "abc"), session("2", "xbd"), session("3", "xy"), session("now", "ab")):
        knn.learn(click.session, click.item, click.ts)
    first, *others = knn.best("now", ["a", "b"], next(_TIMES), 9)
    assert (first, sorted(others)) == ("c", ["d", "x"])
    assert knn.best("now", ["a", "b"], next(_TIMES), 1) == ["c"]
    assert knn.best("new", ["z"], next(_TIMES), 9) == []


def test_lists_count_what_each_source_shows_and_what_is_clicked_of_it(tmp_path: Path) -> None:
    loop = Lists(tmp_path, {}, 500)
    for click in chain(*(session(item, [item]) for item in "abcdef"), session("1", "ab"), session("2", "ab")):
        loop.step(click)
    assert loop.score.predictions == 2
    assert loop.score.hits == 2
    assert loop.shown["trending"] == 2 * 5, "five items are new to each user, and all are popular"
    assert loop.shown["next"] == 1, "b came next after a once, when the second asked"
    report = loop.report()
    assert report["hr_at_20"] == 1.0
    clicked = {name: counts["clicked"] for name, counts in report["sources"].items()}  # type: ignore[attr-defined]
    assert max(clicked.values()) == 2
    assert clicked == {name: loop.clicked[name] for name in loop.shown}


def test_without_sources_nothing_is_proposed(tmp_path: Path) -> None:
    off = Candidates(tmp_path, {}, 500).recommender.pipeline.names[:-2]
    parts = {f"source:{name}": "off" for name in off}
    loop = run(tmp_path, 500, parts, session("1", "ab"), session("2", "ab"))
    assert loop.lost == {"no_item": 1, "not_proposed": 1}


@pytest.mark.parametrize("name", ["next", "together", "trending", "today"])
def test_sources_that_propose_the_next_click_are_named(tmp_path: Path, name: str) -> None:
    loop = run(tmp_path, 500, {}, *(session(f"{k}", "ab") for k in range(5)))
    later = Click("v", "w", "a", next(_TIMES) + HOUR_MS // 60, "1", "20")
    loop.step(later)
    loop.step(Click("v", "w", "b", later.ts + 1000, "1", "20"))
    sources = loop.report()["sources"]
    assert isinstance(sources, dict)
    assert sources[name]["alone"] > 0.5
