"""Some served lists are computed again: what was logged is the same, and a planted fault is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from leaf_world import trained
from logged_examples import write
from prometheus_client import generate_latest
from scraped import Scraped
from small_models import online
from strategies import T0
from worlds import World, busy, by_mmr, request

from headrace.models.features.spec import ONLINE, SPEC
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.log_watch import LogWatch
from headrace.models.learning.ranker import decode, encode
from headrace.models.learning.registry import Registry
from headrace.models.outcomes import examples_of
from headrace.serving.answering import Answer
from headrace.serving.measured import Measured
from headrace.serving.policy import Policy
from headrace.serving.skew import WHAT, SkewProbe, compare
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import Impression
from headrace.streams.metrics import Metrics
from headrace.streams.settings import Settings


@pytest.fixture(scope="module")
def ranker() -> Any:
    return trained()


def world_of(ranker: Any, *, moving: bool = False) -> World:
    world = busy(Policy(rules=by_mmr(0.3, 0.9)))
    world.recommender.online, world.recommender.ranker = online(), ranker
    if moving:
        rng = np.random.default_rng(1)
        n = len(ranker.trees.leaves)
        deltas = rng.normal(size=n).astype(np.float32) / 9
        world.recommender.leaves = LeafDeltas("r1", deltas, np.ones(n, np.float32), used=True, version="m")
    return world


def answered(world: World, n: int = 0) -> tuple[Answer, Impression]:
    asked = request(f"u{n % 20}", request_id=f"r{n}", n=8)
    user = world.row(asked.user_id).copy()  # as it comes from the online store
    answer = world.recommender.answer(asked, user, world.anchors(asked), T0)
    assert answer.impression is not None
    return answer, answer.impression


def wrong(answer: Answer, shown: Impression) -> dict[str, list[int]]:
    assert answer.ranked is not None
    record = msgspec.json.decode(msgspec.json.encode(shown), type=Impression)
    return {what: np.flatnonzero(bad).tolist() for what, bad in compare(answer.ranked, record).items()}


@pytest.mark.parametrize("moving", [False, True])
def test_what_is_logged_is_what_is_computed_again(ranker: Any, moving: bool) -> None:
    world = world_of(ranker, moving=moving)
    for n in range(25):
        answer, shown = answered(world, n)
        assert wrong(answer, shown) == {what: [] for what in WHAT}
        assert shown.leaves == ("m" if moving else "")


def test_later_models_and_rows_change_nothing(ranker: Any) -> None:
    world = world_of(ranker, moving=True)
    answer, shown = answered(world)
    world.recommender.ranker, world.recommender.online = trained(9, "r2"), online(5)
    for n in range(60):
        world.session("u0", [n % 60, (n * 11) % 60], T0 + n)
    assert wrong(answer, shown) == {what: [] for what in WHAT}


@pytest.mark.parametrize("moving", [False, True])
def test_what_was_served_is_right_in_the_log_too(ranker: Any, moving: bool, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    value, version = encode(ranker.text, 1, {})
    registry.add(value, "trained")
    world = world_of(decode(value))
    if moving:
        leaves = np.full(len(ranker.trees.leaves), 0.05, np.float32)
        world.recommender.leaves = LeafDeltas(version, leaves, np.ones_like(leaves), used=True, version="m")
    shown = [answered(world, n)[1] for n in range(10)]
    examples = [e for impression in shown for e in examples_of(impression, {})]
    write(tmp_path / "log", examples)
    watch = LogWatch(tmp_path / "log", registry)
    assert watch.look("") == []
    assert watch.checked == (0 if moving else 80), "how far leaves had moved is not kept"
    assert {e.leaves for e in examples} == {"m" if moving else ""}


def test_without_models_only_features_are_compared() -> None:
    answer, shown = answered(busy(Policy(rules=by_mmr(0, 1))))
    assert wrong(answer, shown) == {"features": []}


def changed(shown: Impression, slot: int, feature: str, value: float) -> Impression:
    x = np.frombuffer(shown.features, "<f4").reshape(-1, len(SPEC)).copy()
    x[slot, SPEC.index(feature)] += value
    return msgspec.structs.replace(shown, features=x.tobytes())


def test_each_planted_fault_is_found_in_its_slot(ranker: Any) -> None:
    answer, shown = answered(world_of(ranker))
    assert wrong(answer, changed(shown, 2, "item_age_h", 1e-6))["features"] == [2], "a bit is enough"
    assert wrong(answer, changed(shown, 1, "position", 1))["features"] == [1]
    found = wrong(answer, changed(shown, 4, SPEC.names[ONLINE], 0.01))
    assert (found["features"], found["online_score"]) == ([], [4])
    scores = [*shown.scores[:3], shown.scores[3] + 1e-6, *shown.scores[4:]]
    assert wrong(answer, msgspec.structs.replace(shown, scores=scores))["score"] == [3]
    x = np.frombuffer(shown.features, "<f4").reshape(-1, len(SPEC))
    swapped = msgspec.structs.replace(shown, features=x[[1, 0, *range(2, len(x))]].tobytes())
    assert wrong(answer, swapped)["features"] == [0, 1], "the features of another item"
    short = msgspec.structs.replace(shown, features=x[:-1].tobytes())
    assert wrong(answer, short)["features"] == list(range(len(x)))


def test_a_part_that_writes_into_features_is_found(ranker: Any) -> None:
    world = world_of(ranker)
    (first, *_) = world.recommender.pipeline.scorers
    scores = first.part.score_for

    def meddles(features: Any, ids: Any) -> Any:
        out = scores(features, ids)
        features[:, SPEC.index("item_ctr_24h")] *= 2
        return out

    first.part.score_for = meddles  # type: ignore[method-assign]
    answer, shown = answered(world)
    assert wrong(answer, shown)["features"] == list(range(len(shown.item_ids)))


def test_one_in_so_many_is_looked_at_and_the_thread_rests(ranker: Any) -> None:
    world, now = world_of(ranker), 0.0
    probe = SkewProbe(every=3, pause_s=1.0, clock=lambda: now)

    def serve(n: int) -> None:
        for k in range(n):
            answer, shown = answered(world, k)
            assert answer.ranked is not None
            probe.logged(answer.ranked, shown)
            probe.settle()

    serve(1)
    assert probe.checked == dict.fromkeys(WHAT, 8)
    serve(9)
    assert probe.checked["score"] == 8, "not again within a second"
    now += 100
    serve(3)
    assert probe.checked["score"] == 16
    assert probe.skewed == dict.fromkeys(WHAT, 0)
    probe.close()


async def test_a_fault_is_counted_in_the_metrics(ranker: Any, caplog: pytest.LogCaptureFixture) -> None:
    world, metrics = world_of(ranker), Metrics()
    clock = ManualClock(T0)
    freshness = Freshness(MemoryStore(), {"u": 2, "n": 2}, clock)
    measured = Measured(metrics, world.recommender, freshness, Settings(metrics_port=1), clock)
    answer, shown = answered(world)
    bad = changed(shown, 2, "item_age_h", 1.0)
    measured.logged(answer, bad)
    assert measured.skew is not None
    measured.skew.settle()
    seen = Scraped(generate_latest(metrics.registry).decode())
    assert seen.all("headrace_skew_checked_total") == {(what,): 8 for what in WHAT}
    assert seen.one("headrace_skew_differs_total", what="features") == 1
    (told,) = [r for r in caplog.records if getattr(r, "action", "") == "skew" and r.what == "features"]  # type: ignore[attr-defined]
    assert "slots [2]" in told.getMessage()
    measured.close()
