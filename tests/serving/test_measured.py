"""What is read of a recommender is what it did, and what it holds."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import generate_latest
from scraped import Scraped
from small_models import online_of_all
from strategies import T0
from worlds import World, request

from headrace.models.learning import online
from headrace.models.learning.online import OnlineWeights
from headrace.serving.answering import Answer
from headrace.serving.measured import Measured
from headrace.serving.mirrors import Mirrors
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import RecItem, RecReply
from headrace.streams.metrics import STAGE_BOUNDS, Metrics
from headrace.streams.settings import Settings


class Worker:
    """A recommender that is measured."""

    def __init__(self, items: int, metrics_port: int = 1) -> None:
        self.world, self.metrics, self.clock = World(items), Metrics(), ManualClock(T0)
        self.freshness = Freshness(MemoryStore(), {"u": 2, "n": 2}, self.clock)
        settings = Settings(metrics_port=metrics_port)
        self.measured = Measured(self.metrics, self.world.recommender, self.freshness, settings, self.clock)

    def read(self) -> Scraped:
        return Scraped(generate_latest(self.metrics.registry).decode())


def reply(items: int = 0, took_ms: float = 3.0, degraded: tuple[str, ...] = ()) -> Answer:
    listed = [RecItem(f"i{n}", 1.0, {}, [], explored=False, propensity=1.0) for n in range(items)]
    return Answer(RecReply("r", listed, degraded=list(degraded), took_ms=took_ms))


def test_replies_are_counted_by_outcome_and_by_what_they_lack() -> None:
    worker = Worker(0)
    answers = [
        reply(3),
        reply(3, 150.0),
        reply(2, degraded=("ranker", "user")),
        reply(0, degraded=("ranker",)),
    ]
    worker.measured.replied([(request(), answer.reply) for answer in answers])
    seen = worker.read()
    for outcome, count in {"ok": 2, "degraded": 1, "empty": 1}.items():
        assert seen.one("headrace_replies_total", surface="home", outcome=outcome) == count
    assert seen.all("headrace_degraded_total") == {("ranker",): 2, ("user",): 1}
    assert seen.one("headrace_reply_seconds_sum", surface="home") == pytest.approx(0.159)
    assert seen.one("headrace_reply_seconds_bucket", surface="home", le="0.1") == 3
    worker.measured.close()


async def test_parts_and_mirrors_are_read_as_they_are() -> None:
    worker = Worker(30)
    world = worker.world
    world.session("u", [1, 2, 3])
    before = worker.read()
    assert before.one("headrace_part_calls_total", kind="source", part="hot") == 0
    answer = world.recommender.answer(request(n=5), world.row("u"), Anchors(), T0)
    assert answer.impression is not None
    counts = world.recommender.pipeline.counts()
    after = worker.read()
    assert (
        after.one("headrace_source_items_total", source="hot", step="proposed")
        == counts["source:hot"].kept
        > 0
    )
    for stage, times in world.recommender.data.stages.times.items():
        assert after.one("headrace_stage_seconds_sum", stage=stage) == pytest.approx(times.seconds)
        assert after.one("headrace_stage_seconds_count", stage=stage) == sum(times.counts)
        below = after.one("headrace_stage_seconds_bucket", stage=stage, le="0.001")
        assert below == sum(times.counts[: STAGE_BOUNDS.index(0.001) + 1])
        if stage in {"sources", "merge", "filters", "candidates", "features", "score", "rerank", "reply"}:
            assert times.seconds > 0
            assert sum(times.counts) == 1
    for label, part in counts.items():
        kind, name = label.split(":")
        assert after.one("headrace_part_calls_total", kind=kind, part=name) == part.calls
        assert after.one("headrace_part_seconds_total", kind=kind, part=name) == pytest.approx(part.seconds)
        if kind == "filter":
            given = after.one("headrace_filter_items_total", filter=name, step="given")
            assert (given, after.one("headrace_filter_items_total", filter=name, step="kept")) == (
                part.given,
                part.kept,
            )
    assert sum(after.all("headrace_filter_items_total", step="given").values()) > 0
    assert after.one("headrace_mirror_rows", mirror="catalogue") == 30
    assert after.one("headrace_mirror_rows", mirror="items") == 3
    assert after.one("headrace_mirror_bytes", mirror="items") == world.recommender.stats.table.nbytes
    assert after.one("headrace_index_items") == after.one("headrace_index_tail_items") == 30
    assert after.one("headrace_index_merge_age_seconds") is None
    assert after.one("headrace_index_recall_ratio") is None
    await worker.freshness.look()
    assert worker.read().all("headrace_stale_partitions") == {("users",): 2, ("neighbours",): 2}
    worker.measured.close()


async def test_a_model_has_a_version_and_an_age_a_refused_one_has_none() -> None:
    worker = Worker(0)
    n = len(online.ONLINE_NAMES)
    weights = OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), np.zeros(n, np.float32), -1.0)
    value, version = online.encode(weights, T0, {"auc": 0.64})
    mirrors = Mirrors(worker.world.recommender)
    records = [
        SimpleNamespace(key=b"online", value=value, timestamp=T0 - 5000),
        SimpleNamespace(key=b"online", value=b"{}", timestamp=T0 - 1000),
        SimpleNamespace(key=b"ranker", value=b"{}", timestamp=T0 - 1000),
    ]
    mirrors.models(records)
    seen = worker.read()
    assert seen.all("headrace_model_info") == {("online", version): 1}
    assert seen.all("headrace_model_age_seconds") == {("online",): 5}
    assert seen.all("headrace_model_auc_ratio") == {("online",): 0.64}
    await worker.clock.advance(60)
    assert worker.read().all("headrace_model_age_seconds") == {("online",): 65}
    worker.measured.close()


def test_the_objectives_of_the_online_model_have_figures() -> None:
    worker, model = Worker(0), online_of_all()
    quality = {"auc": 0.7, "calibration": 1.01, "drifts": 2.0, "like_auc": 0.6, "long_view_log_loss": 0.1}
    value = online.encode(model, T0, quality)[0]
    Mirrors(worker.world.recommender).models([SimpleNamespace(key=b"online", value=value, timestamp=T0)])
    seen = worker.read()
    shares = {("click",): 0.3, ("long_view",): 0.5, ("like",): 0.2}
    assert seen.all("headrace_online_share_ratio") == shares
    assert seen.all("headrace_online_auc_ratio") == {("click",): 0.7, ("like",): 0.6}
    assert seen.all("headrace_online_log_loss_ratio") == {("long_view",): 0.1}
    assert seen.all("headrace_online_calibration_ratio") == {("click",): 1.01}
    assert seen.all("headrace_online_drifts_total") == {("click",): 2.0}
    worker.world.recommender.online = dataclasses.replace(model, heads={}, shares={}, quality={})
    seen = worker.read()
    assert seen.all("headrace_online_share_ratio") == {("click",): 1.0}
    assert seen.all("headrace_online_auc_ratio") == {}
    worker.measured.close()


def test_without_a_port_no_search_is_compared() -> None:
    worker = Worker(30, metrics_port=0)
    assert worker.measured.recall is None
    worker.measured.replied([(request(), reply(1).reply)])
    assert worker.read().one("headrace_replies_total", surface="home") == 1
