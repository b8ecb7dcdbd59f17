"""The learner follows the ranker on `models`, and goes on from published deltas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from leaf_world import clicks, trained

from headrace.agents.partitions.leaf_deltas import RankerLeaves
from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact, leaves, pointers, ranker
from headrace.models.learning.pointers import Pointers

ONE, V1 = ranker.encode(trained().text, 1, {})
TWO, V2 = ranker.encode(trained(4).text, 2, {})


def learn(follower: RankerLeaves, n: int = 700, seed: int = 1) -> None:
    x, y, ids = clicks(n, seed, -1.0)
    follower.learn(x, y, ids)


def published(follower: RankerLeaves) -> bytes:
    """Merge what the follower has learnt with nothing else; publish it."""
    part = follower.give_part()
    assert part is not None
    assert follower.learner is not None
    merged = following((b"ranker", ONE if follower.learner.ranker == V1 else TWO))
    if follower.newest is not None:
        merged.take(b"leaves", leaves.encode(follower.newest[0], 2, {"examples": follower.newest[1]})[0])
    merged.merge([part])
    follower.go_on_as(merged)
    found = merged.to_publish()
    assert found is not None
    assert merged.to_publish() is None
    return leaves.encode(found[0], 3, found[1])[0]


def following(*records: tuple[bytes, bytes | None]) -> RankerLeaves:
    out = RankerLeaves()
    for key, value in records:
        out.take(key, value)
    return out


def test_without_a_ranker_nothing_is_learnt() -> None:
    follower = following((b"online", b"x"), (b"ranker", None))
    learn(follower)
    assert follower.give_part() is None
    assert follower.to_publish() is None


def test_only_news_is_given_away() -> None:
    follower = following((b"ranker", ONE))
    assert follower.give_part() is None
    learn(follower)
    assert leaves.decode(published(follower)).ranker == V1
    assert follower.give_part() is None


@pytest.mark.parametrize("contained", [True, False])
def test_published_deltas_undo_nothing_that_they_do_not_contain(contained: bool) -> None:
    alone, follower = following((b"ranker", ONE)), following((b"ranker", ONE))
    empty = leaves.encode(follower.learner.deltas(), 1, {"examples": 0})[0] if follower.learner else b""
    for one in (alone, follower):
        learn(one)
    sent = follower.give_part()
    assert sent is not None
    merged = following((b"ranker", ONE))
    merged.merge([sent])
    found = merged.to_publish()
    assert found is not None
    for one in (alone, follower):
        learn(one, 300, 2)
    if contained:
        follower.take(b"leaves", leaves.encode(found[0], 2, found[1])[0])
    else:
        follower.take(b"leaves", empty, sent)
    assert follower.learner is not None
    assert alone.learner is not None
    want, got = alone.learner.deltas(), follower.learner.deltas()
    np.testing.assert_allclose(got.deltas, want.deltas, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(got.terms, want.terms, atol=1e-3)
    assert follower.learner.seen == 1000
    part = follower.give_part()
    assert part is not None
    assert part.seen == 300, "what was sent is not given away again"


def test_a_new_ranker_starts_from_its_own_values() -> None:
    follower = following((b"ranker", ONE))
    learn(follower)
    old = published(follower)
    for key, value in ((b"ranker", TWO), (b"leaves", old)):
        follower.take(key, value)
    assert follower.learner is not None
    assert (follower.learner.ranker, follower.learner.seen) == (V2, 0)
    assert not follower.learner.deltas().deltas.any()


@pytest.mark.parametrize("first", ["ranker", "leaves"])
def test_a_restarted_learner_goes_on_whatever_order_compaction_left(first: str) -> None:
    before = following((b"ranker", ONE))
    learn(before)
    told = [(b"ranker", ONE), (b"leaves", published(before))]
    after = following(*(told if first == "ranker" else told[::-1]))
    assert after.learner is not None
    assert before.learner is not None
    assert after.learner.seen == 700
    a, b = before.learner.deltas(), after.learner.deltas()
    np.testing.assert_allclose(b.deltas, a.deltas, rtol=1e-4, atol=1e-7)
    assert after.give_part() is None


def test_the_same_ranker_published_again_changes_nothing() -> None:
    follower = following((b"ranker", ONE))
    learn(follower)
    follower.take(b"ranker", ONE)
    assert follower.learner is not None
    assert follower.learner.seen == 700


def test_deltas_that_are_not_finite_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    follower = following((b"ranker", ONE))
    learn(follower)
    good = leaves.decode(published(follower))
    assert follower.learner is not None
    broken = dataclasses.replace(good, deltas=np.full_like(good.deltas, np.nan))
    assert follower.learner.restore(broken, 701)
    learn(follower, 9)
    assert follower.give_part() is None
    assert "not finite" in caplog.text
    assert follower.learner.seen == 700
    np.testing.assert_allclose(follower.learner.deltas().deltas, good.deltas, rtol=1e-4, atol=1e-7)


def test_a_ranker_whose_leaves_cannot_move_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    text = trained().text.replace("objective=binary sigmoid:1", "objective=poisson")
    follower = following((b"ranker", ONE), (b"ranker", ranker.encode(text, 1, {})[0]), (b"leaves", b"{}"))
    learn(follower)
    assert follower.give_part() is None
    assert "do not move" in caplog.text
    follower.take(b"ranker", artefact.encode("ranker", "lightgbm", b"", SPEC.names[:-1], 1, {})[0])
    assert follower.learner is None
    follower.take(b"ranker", TWO)
    assert follower.learner is not None


def test_the_leaves_are_those_of_the_live_ranker_whatever_is_tried() -> None:
    def pointing(number: int, live: str, candidate: str = "") -> bytes:
        return pointers.encode(Pointers(number, live=live, candidate=candidate))

    follower = following(
        (b"ranker/" + V1.encode(), ONE),
        (pointers.KEY, pointing(1, V1)),
        (b"ranker/" + V2.encode(), TWO),
        (pointers.KEY, pointing(2, V1, V2)),
    )
    learn(follower)
    assert leaves.decode(published(follower)).ranker == V1
    follower.take(pointers.KEY, pointing(3, V2))
    assert follower.learner is not None
    assert (follower.learner.ranker, follower.learner.seen) == (V2, 0)
