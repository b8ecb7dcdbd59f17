"""Spans of requests: what the stage of answering gives away, and what the exporter makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from collector import attributes, collector
from serve_stage import NOW, TO_P, Broker, Rec, batch, body, stage_on

from headrace.agents.recommend import ServeStage
from headrace.agents.stage import span_export
from headrace.agents.stage.bulk import BulkStage
from headrace.agents.stage.span_export import SpanExport
from headrace.agents.stage.spans_out import SpansOut
from headrace.demo.embedded import free_port
from headrace.serving.traces.spans import RequestSpans, Time
from headrace.streams.metrics import Metrics
from headrace.streams.settings import Settings

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = [*TO_P, ("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
NOT_SAMPLED = [*TO_P, ("traceparent", f"00-{TRACE}-{SPAN}-00".encode())]
OF_A_LIST = [
    "query", "sources", "merge", "filters", "candidates", "features", "score", "rerank", "reply",
]  # fmt: skip
Eventually = Callable[..., Awaitable[None]]


class Kept:
    def __init__(self) -> None:
        self.taken: list[RequestSpans] = []

    def write(self, spans: RequestSpans) -> None:
        self.taken.append(spans)


def followed(broker: Broker, share: float = 1.0) -> tuple[ServeStage, Kept]:
    stage, kept = stage_on(broker), Kept()
    stage.wiring.spans = kept
    stage.wiring.settings = Settings(otlp_share=share)
    stage.spans = SpansOut(stage.wiring, stage.recommender.data.stages)
    stage._rows._stages = stage.recommender.data.stages  # the world's recommender has its own
    return stage, kept


async def answered(stage: Any, *records: Rec) -> None:
    todo = batch(*records)
    await stage.finish(todo, await stage.answer(todo))
    await asyncio.sleep(0)


async def test_a_request_has_the_times_of_its_own_stages_and_of_those_it_shares() -> None:
    broker = Broker(rec_replies_p=1)
    stage, kept = followed(broker)
    records = [Rec(body(request_id=f"r{n}", user_id=f"u{n}"), timestamp=NOW - 40) for n in range(3)]
    await answered(stage, *records)
    assert {each.attributes["headrace.request_id"] for each in kept.taken} == {"r0", "r1", "r2"}
    times = stage.recommender.data.stages.times
    for each in kept.taken:
        names = [time.stage for time in each.stages]
        assert names.count("store") == names.count("rows") == 2, "user and shown, neighbours"
        assert [name for name in names if name not in {"store", "rows", "tick"}] == [
            "queue", *OF_A_LIST, "encode", "send"
        ]  # fmt: skip
        assert all(each.began <= time.began <= time.ended <= each.ended for time in each.stages)
        assert each.attributes["headrace.rung"] == "full"
        assert each.attributes["headrace.items"] == each.attributes["headrace.n"] == 3
        assert each.error == ""
    for name in (*OF_A_LIST, "encode", "send", "queue"):
        spent = sum(t.ended - t.began for each in kept.taken for t in each.stages if t.stage == name)
        assert spent == pytest.approx(times[name].seconds, abs=1e-5), name


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_reply_that_is_taken_while_others_are_made_is_timed_for_its_own_request(bulk: bool) -> None:
    stage, kept = followed(Broker(rec_replies_p=1))
    answering: Any = BulkStage(stage, stopping=lambda: True) if bulk else stage
    todo = batch(*(Rec(body(request_id=f"r{n}", user_id=f"u{n}")) for n in range(16)))
    await answering.finish(todo, await answering.answer(todo))
    await asyncio.sleep(0)
    assert [[t.stage for t in each.stages].count("send") for each in kept.taken] == [1] * 16


async def test_a_page_has_the_stages_of_all_its_lists() -> None:
    stage, kept = followed(Broker(rec_replies_p=1))
    lists = [{"surface": "home", "n": 3}, {"surface": "digest", "n": 4}]
    await answered(stage, Rec(body(lists=lists)))
    (one,) = kept.taken
    assert [time.stage for time in one.stages if time.stage == "rerank"] == ["rerank"] * 2
    assert one.attributes["headrace.surfaces"] == ["home", "digest"]
    assert one.attributes["headrace.n"] == one.attributes["headrace.items"] == 7


async def test_the_caller_decides_whether_a_request_has_spans() -> None:
    stage, kept = followed(Broker(rec_replies_p=1), share=0.0)
    await answered(stage, Rec(body(request_id="no")), Rec(body(request_id="yes"), headers=SAMPLED))
    (one,) = kept.taken
    assert one.attributes["headrace.request_id"] == "yes"
    assert [time.stage for time in one.stages].count("score") == 1, "its own, not that of the other"
    assert one.caller is not None
    assert one.caller.trace_id == int(TRACE, 16)
    stage, kept = followed(Broker(rec_replies_p=1), share=1.0)
    await answered(stage, Rec(body(), headers=NOT_SAMPLED))
    assert kept.taken == []


async def test_a_bulk_request_has_spans_too() -> None:
    stage, kept = followed(Broker(rec_replies_p=1))
    await answered(BulkStage(stage, stopping=lambda: True), Rec(body(surface="digest"), timestamp=NOW - 5000))
    (one,) = kept.taken
    assert one.attributes["headrace.surface"] == "digest"
    assert one.began == pytest.approx((NOW - 5000) / 1000)
    assert "headrace.rung" not in one.attributes
    assert {"store", "sources", "rerank", "send"} <= {time.stage for time in one.stages}


async def test_a_reply_that_is_not_delivered_is_an_error() -> None:
    broker = Broker(rec_replies_p=1)
    broker.fails = KafkaTimeoutError()
    stage, kept = followed(broker)
    await answered(stage, Rec(body()))
    (one,) = kept.taken
    assert one.error == "reply_undeliverable"
    assert broker.letters() == [("reply_undeliverable", "reply_to", 0)]


async def test_what_takes_no_spans_disturbs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(rec_replies_p=1)
    stage, kept = followed(broker)
    kept.write = None  # type: ignore[assignment,method-assign]
    await answered(stage, Rec(body()), Rec(body()))
    assert len(broker.of("rec-replies-p")) == 2
    assert broker.letters() == []
    assert "has no spans" in caplog.text


def test_without_an_endpoint_the_stages_tell_nobody() -> None:
    stage = stage_on(Broker())
    assert stage.wiring.spans is None
    assert stage.recommender.data.stages.told is None


@asynccontextmanager
async def exporting(url: str) -> AsyncIterator[tuple[SpanExport, Callable[[str], float]]]:
    metrics = Metrics()
    export = SpanExport(Settings(otlp_endpoint=url), metrics)

    def count(outcome: str) -> float:
        return metrics.registry.get_sample_value("headrace_spans_total", {"outcome": outcome}) or 0.0

    await export.start()
    try:
        yield export, count
    finally:
        await export.stop()


def spans(**more: Any) -> RequestSpans:
    stages = [Time("store", 10.0, 10.5), Time("score", 10.5, 11.0)]
    return RequestSpans(10.0, 11.0, {"headrace.surface": "home", "headrace.sources": ["hot"]}, stages, **more)


async def test_a_collector_gets_the_spans_and_the_error(eventually: Eventually) -> None:
    async with collector() as found, exporting(found.url + "/") as (export, count):
        export.write(spans(error="reply_undeliverable"))
        await eventually(lambda: count("written") == 3)
        (whole,) = found.whole()
        assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (10 * 10**9, 11 * 10**9)
        assert whole.status.code == whole.status.STATUS_CODE_ERROR
        assert whole.status.message == "reply_undeliverable"
        assert [span.name for span in found.below(whole)] == ["store", "score"]
        assert attributes(whole) == {"headrace.surface": "home", "headrace.sources": ["hot"]}
        assert found.services == {"headrace"}
        assert count("lost") == 0


async def test_what_is_left_is_sent_when_the_process_stops() -> None:
    async with collector() as found:
        async with exporting(found.url) as (export, count):
            export.write(spans())
        assert len(found.spans) == count("written") == 3
        export.write(spans())
        assert count("lost") == 3, "after the end"


async def test_a_collector_that_is_away_loses_spans_and_is_said_once(
    eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    async with exporting(f"http://127.0.0.1:{free_port()}") as (export, count):
        for _ in range(3):
            before = count("lost")
            export.write(spans())
            await eventually(lambda: count("lost") == before + 3)  # noqa: B023
    assert count("written") == 0
    said = [record for record in caplog.records if record.name.startswith("opentelemetry.exporter")]
    assert len(said) == 1


async def test_a_collector_that_refuses_loses_spans(eventually: Eventually) -> None:
    async with collector() as found, exporting(found.url) as (export, count):
        found.status = 401
        export.write(spans())
        await eventually(lambda: count("lost") == 3)
        found.status = 200
        export.write(spans())
        await eventually(lambda: count("written") == 3)


async def test_spans_that_wait_are_bounded_and_the_end_does_not_wait_for_a_collector_that_hangs(
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "SEND_S", 0.5)
    async with collector() as found:
        found.answers.clear()
        async with exporting(found.url) as (export, count):
            for _ in range(span_export.MOST):
                export.write(spans())
            assert count("lost") >= 3 * span_export.MOST - span_export.MOST
        await eventually(lambda: count("lost") == 3 * span_export.MOST)
        assert count("written") == 0
        assert found.spans == []
