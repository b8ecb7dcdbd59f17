"""What lists were made from is written for a share of the requests; what cannot be written is counted."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest
from scraped import Scraped
from serve_stage import Broker, Rec, batch, body, stage_on
from worlds import item

from headrace.agents.recommend import ServeStage
from headrace.serving.index.quantised import of_coarse
from headrace.serving.traces import made
from headrace.serving.traces.made import is_traced
from headrace.serving.traces.record import decode
from headrace.serving.traces.replay import again, whole
from headrace.streams.settings import Settings


async def answered(stage: ServeStage, *values: bytes) -> None:
    todo = batch(*map(Rec, values))
    await stage.finish(todo, await stage.answer(todo))


def counted(stage: ServeStage) -> dict[str, float]:
    scraped = Scraped(generate_latest(stage.wiring.metrics.registry).decode())
    names = ("written", "too_large", "failed")
    counts = {name: scraped.one("headrace_traces_total", outcome=name) for name in names}
    return {name: n for name, n in counts.items() if n}


async def test_every_list_of_a_traced_request_has_a_record() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker, Settings(trace_share=1.0))
    page = [{"surface": "home", "n": 2}, {"surface": "digest", "n": 3}]
    await answered(stage, body(), body(request_id="p", lists=page), body(request_id="bad", n=0))
    found = [(key, decode(value or b"")) for key, value, *_ in broker.of("traces")]
    assert [(key, t.request.request_id, t.parts) for key, t in found] == [
        (b"r", "r", 1), (b"p", "p/1", 2), (b"p", "p/2", 2),
    ]  # fmt: skip
    replies = [value for _, value, *_ in broker.of("rec-replies-p")]
    for traces in ([found[0][1]], [found[1][1], found[2][1]]):
        sent, same = whole(traces, [again(trace, None) for trace in traces])
        assert same
        assert sent in replies
    assert counted(stage) == {"written": 3}


async def test_titles_are_those_of_the_moment_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker, Settings(trace_share=1.0))
    catalog, titles = stage.recommender.catalog, [""]
    after = stage.traces.after

    async def later(*args: Any) -> Any:
        titles[0] = "renamed"
        return await after(*args)

    monkeypatch.setattr(stage.traces, "after", later)
    monkeypatch.setattr(catalog, "title_of", lambda key, default: titles[0])
    await answered(stage, body())
    (trace,) = (decode(value or b"") for _, value, *_ in broker.of("traces"))
    assert trace.ranked is not None
    assert len(trace.ranked.titles)
    assert not trace.ranked.titles.any()


async def test_vectors_are_those_of_the_moment_of_the_list_on_a_page_too() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker, Settings(trace_share=1.0))
    catalog, wanted = stage.recommender.catalog, list[Any]()

    async def between() -> None:  # other items take the rows of those of the first list
        keys = catalog.table.keys()
        wanted.append(dict(zip(keys.tolist(), catalog.vectors.content_of(keys), strict=True)))
        catalog.drop_many([f"i{n}" for n in range(30)])
        catalog.put_many([item(n, category="another", title="other") for n in range(30, 60)])

    page = [{"surface": "home", "n": 2}, {"surface": "digest", "n": 3}]
    jobs, _ = stage.read([Rec(body(lists=page))], set())
    async for (request, *_), reply, answers in stage.answers(jobs, None, between):
        stage.traces.note(stage.recommender.pipeline, request, answers)
        traces = stage.traces.of(stage.recommender.pipeline, request, reply, answers)
    ranked = traces[0].ranked
    assert ranked is not None
    assert len(ranked.keys)
    expected = np.array([wanted[0][key] for key in ranked.keys.tolist()])
    assert np.array_equal(of_coarse(ranked.choices["vectors"]), expected)


async def test_only_a_share_is_traced_and_always_the_same_requests() -> None:
    names = [f"r{n}" for n in range(400)]
    traced = [name for name in names if is_traced(name, 0.1)]
    assert 20 < len(traced) < 60
    assert not any(is_traced(name, 0.0) for name in names)
    assert set(traced) < {name for name in names if is_traced(name, 0.5)}
    for _ in range(2):
        broker = Broker(rec_replies_p=1)
        await answered(
            stage_on(broker, Settings(trace_share=0.1)), *(body(request_id=name) for name in names)
        )
        assert [key.decode() for key, *_ in broker.of("traces") if key] == traced


async def test_what_is_too_large_for_the_topic_or_for_us_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rec_replies_p=1, takes=2000)
    stage = stage_on(broker, Settings(trace_share=1.0, unshown_share=0.0))
    await answered(stage, body(n=1))
    assert len(broker.of("rec-replies-p")) == 1
    assert (counted(stage), broker.of("traces")) == ({"too_large": 1}, [])
    broker.takes = 1 << 20
    monkeypatch.setattr("headrace.agents.stage.traces_out.MOST_BYTES", 100)
    await answered(stage, body(n=1))
    assert (counted(stage), broker.of("traces")) == ({"too_large": 2}, [])


async def test_an_error_costs_the_trace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(made, "_ranked", fault)
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker, Settings(trace_share=1.0))
    await answered(stage, body())
    (reply,) = (msgspec.json.decode(value or b"") for _, value, *_ in broker.of("rec-replies-p"))
    assert len(reply["items"]) == 3
    assert len(broker.of("impressions")) == 1
    assert counted(stage) == {"failed": 1}
