from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import online
from strategies import T0, item_events, pieces
from worlds import World, request

from headrace.models.learning import leaves, pointers, ranker
from headrace.models.learning import online as online_model
from headrace.models.learning.pointers import Pointers, Shadowed
from headrace.models.learning.ranker import Ranker
from headrace.models.state.items import ItemState
from headrace.serving.mirrors import COUNTRY_MS, Mirrors
from headrace.serving.policy import Policy
from headrace.serving.rankers import Rankers
from headrace.serving.recommender import Recommender
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.tables.rows import RowTable

cuts = st.lists(st.integers(0, 60), max_size=6)
Events = np.ndarray[Any, Any]


def mirrored() -> tuple[Mirrors, ItemState]:
    """Return mirrors and the item rows they keep."""
    stats = ItemState()
    return Mirrors(Recommender(Policy(), stats=stats)), stats


def rows_of(table: RowTable) -> dict[int, bytes]:
    return dict(zip(table.keys().tolist(), table.pack(table.rows()), strict=True))


def same(a: ItemState, b: ItemState) -> bool:
    return rows_of(a.table) == rows_of(b.table) and rows_of(a.countries) == rows_of(b.countries)


def record(key: bytes | None, value: bytes | None) -> Any:
    return SimpleNamespace(key=key, value=value, timestamp=T0)


def row_key(key: int) -> bytes:
    return key.to_bytes(8, "little")


@given(item_events(), cuts)
def test_a_mirror_of_the_topics(events: Events, where: list[int]) -> None:
    source, (mirrors, mirror) = ItemState(), mirrored()
    for part in pieces(len(events), where):
        touched = source.apply(events[part], np.arange(part.start, part.stop))
        for table, rows, load in zip(
            (source.table, source.countries),
            touched,
            (mirrors.item_features, mirrors.item_countries),
            strict=True,
        ):
            records = [record(b"m:3", b"12345678"), record(None, b"x")]
            records += [
                record(row_key(k), v)
                for k, v in zip(table.data["key"][rows].tolist(), table.pack(rows), strict=True)
            ]
            assert load(records) == len(rows)
    assert same(source, mirror)


def test_a_mirror_forgets_what_has_expired_and_never_goes_back() -> None:
    source, (mirrors, mirror) = ItemState(), mirrored()
    click = np.zeros(1, ITEM_EVENT)
    click["item"], click["ts"], click["amount"], click["kind"] = 1, T0, 1, KIND["click"]
    packed = []
    for n in range(3):
        source.apply(click, np.array([n]))
        packed += source.table.pack(source.table.rows())
    key = row_key(1)
    mirrors.item_features([record(key, packed[2]), record(key, packed[0])])  # a zombie writes last
    assert mirror.table.data["offset"][mirror.table.row(1)] == 2
    mirrors.item_features([record(key, packed[2]), record(key, None)])
    assert len(mirror.table) == 0
    mirrors.item_features([record(key, None), record(key, packed[1])])
    assert mirror.table.data["offset"][mirror.table.row(1)] == 1
    assert mirrors.item_features([record(key, b"short")]) == 0


def test_of_each_model_the_newest_that_fits_is_used(
    trained: Ranker, caplog: pytest.LogCaptureFixture
) -> None:
    recommender = Recommender(Policy())
    older, _ = online_model.encode(online(1), 0, {})
    newer, version = online_model.encode(online(2), 0, {})
    lightgbm, ranker_version = ranker.encode(trained.text, 0, {})
    assert trained.trees is not None
    blank = np.zeros(len(trained.trees.leaves), np.float32)
    deltas, leaves_version = leaves.encode(leaves.LeafDeltas(ranker_version, blank, blank + 1, True), 0, {})
    with caplog.at_level(logging.ERROR):
        Mirrors(recommender).models(
            [
                record(b"ranker", lightgbm),
                record(b"leaves", deltas),
                record(b"online", older),
                record(b"online", newer),
                record(b"online", b"{}"),
                record(b"online", None),
                record(b"some other model", b"{}"),
            ]
        )
    assert recommender.online is not None
    assert recommender.online.version == version
    assert recommender.ranker is not None
    assert recommender.ranker.version == ranker_version
    moved = recommender.data.models.moved
    assert moved is not None
    assert moved.version == leaves_version
    assert [r.action for r in caplog.records] == ["model_refused"]  # type: ignore[attr-defined]


def test_a_candidate_answers_its_share_of_the_users_and_a_rollback_ends_it(
    trained: Ranker, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(20)
    mirrors, rankers = Mirrors(world.recommender), world.recommender.data.models.rankers
    one, live = ranker.encode(trained.text, 0, {})
    two, candidate = ranker.encode(trained.text + "\n", 0, {})
    texts = [record(pointers.text_key(v), value) for v, value in ((live, one), (candidate, two))]

    def pointed(number: int, **fields: Any) -> Any:
        return record(pointers.KEY, pointers.encode(Pointers(number, live, **fields)))

    def answers() -> dict[str, tuple[str, str]]:
        replies = {f"u{n}": world.answer(request(f"u{n}")).reply.model for n in range(200)}
        return {user: (m.ranker, m.variant) for user, m in replies.items() if m is not None}

    mirrors.models([*texts, pointed(1)])
    assert set(answers().values()) == {(live, "")}
    mirrors.models([pointed(2, candidate=candidate, rollout="x")])
    assert set(answers().values()) == {(live, "")}, "nobody sees what a shadow ranks"
    before: set[str] = set()
    for number, share in ((3, 1), (4, 10), (5, 50)):
        mirrors.models([pointed(number, candidate=candidate, share=share, rollout="x", began_ts=1)])
        got = answers()
        assert set(got.values()) <= {(live, "live"), (candidate, "candidate")}
        asked = {user for user, (version, _) in got.items() if version == candidate}
        assert before <= asked, "who has tried it goes on"
        assert len(asked) == pytest.approx(2 * share, abs=16)
        before = asked
    mirrors.models([pointed(6)])
    assert set(answers().values()) == {(live, "")}
    assert rankers.candidate is None
    mirrors.models([pointed(7, candidate="gone", share=50, rollout="y")])
    assert set(answers().values()) == {(live, "")}, "a candidate without a text answers nobody"
    broken = record(pointers.text_key("bad"), b"{}")
    mirrors.models([broken, record(pointers.KEY, pointers.encode(Pointers(8, "bad", live)))])
    assert set(answers().values()) == {(live, "")}, "the last good one stays in use"
    assert [r.action for r in caplog.records if hasattr(r, "action")] == ["model_refused"]


def test_a_ranker_that_was_read_before_is_used_and_a_bad_one_is_refused_as_ever(
    trained: Ranker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rankers, decoded = Rankers(), list[bytes]()
    read = ranker.decode

    def counted(value: bytes) -> Ranker:
        decoded.append(value)
        return read(value)

    monkeypatch.setattr(ranker, "decode", counted)
    made = [ranker.encode(trained.text + "\n" * n, 0, {}) for n in range(4)]
    texts = [record(pointers.text_key(version), value) for value, version in made]
    rankers.read(texts)
    assert decoded == [value for value, _ in made[-2:]], "only the last ones: older ones are rarely named"
    last, before = made[3][1], made[0][1]
    rankers.apply(texts)
    assert len(decoded) == 2
    rankers.apply([record(pointers.KEY, pointers.encode(Pointers(1, last)))])
    assert (len(decoded), rankers.live and rankers.live.version) == (2, last)
    rankers.apply([record(pointers.KEY, pointers.encode(Pointers(2, before)))])
    assert (len(decoded), rankers.live and rankers.live.version) == (3, before), "it was not read before"

    # Another record of this version than the one that was read: that one counts.
    again, gone = ranker.encode(trained.text, 5, {}), record(pointers.text_key(made[2][1]), b"{}")
    rankers.read([record(pointers.text_key(made[2][1]), made[2][0])])
    rankers.apply([gone, record(pointers.KEY, pointers.encode(Pointers(3, made[2][1])))])
    assert rankers.live is not None
    assert rankers.live.version == before
    rankers.read([record(pointers.text_key("bad"), b"{}"), record(pointers.text_key(again[1]), again[0])])
    assert [r.action for r in caplog.records if hasattr(r, "action")] == ["model_refused"]


def test_every_candidate_is_read_and_those_that_are_gone_are_forgotten(trained: Ranker) -> None:
    rankers = Rankers()
    made = [ranker.encode(trained.text + "\n" * n, 0, {}) for n in range(4)]
    (live, one, two, three), values = [v for _, v in made], [value for value, _ in made]
    p = Pointers(1, live, candidate=one, others=(Shadowed(two, 0), Shadowed(three, 0), Shadowed("gone", 0)))
    texts = [
        record(pointers.text_key(v), value) for value, v in zip(values, (live, one, two, three), strict=True)
    ]
    rankers.apply([*texts, record(pointers.KEY, pointers.encode(p))])
    assert [r.version for r in rankers.others] == [two, three]
    kept = rankers.others[1]
    counted = Counter(rankers.shadowed(n / 30).version for n in range(30))  # type: ignore[union-attr]
    assert counted == {one: 10, two: 10, three: 10}
    p = Pointers(2, live, candidate=three, share=50, rollout="x")
    rankers.apply([record(pointers.KEY, pointers.encode(p))])
    assert (rankers.candidate, rankers.others) == (kept, []), "a ranker is read once"
    rankers.apply([record(pointers.KEY, pointers.encode(Pointers(3, live)))])
    assert rankers.shadowed(0.3) is None


def clicked(countries: range, ts: int) -> tuple[ItemState, list[Any]]:
    """Return records of the country rows of one item, clicked once from each country at ``ts``."""
    source = ItemState()
    clicks = np.zeros(len(countries), ITEM_EVENT)
    clicks["item"], clicks["ts"], clicks["amount"], clicks["kind"] = 1, ts, 1, KIND["click"]
    clicks["country"] = list(countries)
    source.apply(clicks, np.arange(len(clicks)))
    rows = source.countries.rows()
    keys = source.countries.data["key"][rows].tolist()
    packed = source.countries.pack(rows)
    return source, [record(row_key(k), v) for k, v in zip(keys, packed, strict=True)]


def test_countries_that_producers_make_up_take_a_bounded_space() -> None:
    recommender = Recommender(Policy())
    mirrors = Mirrors(recommender, most_countries=4000)
    table = recommender.stats.countries
    for n in range(20):
        mirrors.item_countries(clicked(range(1000 * n + 1, 1000 * n + 1001), T0 + n)[1], T0 + n)
        assert len(table) <= 4000
        recommender.trending.refresh(T0 + n)
    assert table.nbytes < 6_000_000
    newest = np.array([1], np.uint64)
    assert recommender.stats.country_clicks(newest, 20_000, T0 + 20).tolist() == [1.0]
    assert recommender.trending.country(20_000)[0].tolist() == [1]


def test_country_rows_that_count_for_no_request_any_more_are_dropped() -> None:
    recommender = Recommender(Policy())
    mirrors = Mirrors(recommender)
    old, new = T0 - COUNTRY_MS - 1, T0 - COUNTRY_MS
    mirrors.item_countries(clicked(range(1, 1001), old)[1], old)
    mirrors.item_countries(clicked(range(2001, 2801), new)[1], old)
    assert len(recommender.stats.countries) == 1800
    mirrors.item_countries(clicked(range(5001, 7001), T0)[1], T0)
    table = recommender.stats.countries
    assert len(table) == 2800
    assert set(table.data["last_click"][table.rows()].tolist()) == {new, T0}
    again = clicked(range(1, 2), T0)[1]
    assert mirrors.item_countries(again, T0) == 1, "a dropped row comes back whole with its next click"
