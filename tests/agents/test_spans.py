"""Spans of a running worker and gateway, received by a collector."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from collector import attributes, collector
from command_line import run_headrace
from fresh_topics import make_topics
from gateways import gateway, with_gateway
from installation import ITEMS, producer, publish, until, worker
from pydantic import ValidationError
from scraped import scrape

from headrace.demo.embedded import free_port
from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
PERSON = "ada.lovelace@example.org"


async def test_a_sampled_request_is_a_trace_that_continues_its_callers_and_names_no_user(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async with collector() as found:
        base = make_settings(
            data_dir=tmp_path,
            metrics_port=free_port(),
            otlp_endpoint=found.url,
            otlp_share=0.0,
            id_key="the-key",
        )
        here = with_gateway(base)
        await make_topics(here)
        async with producer(here) as sender:
            await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
        async with gateway(here, ["serve"]) as http, RecClient(here, "m") as client:
            for n in range(3):
                await client.recommend(RecRequest(f"plain-{n}", PERSON, "home", deadline_ms=5000), 10)
            request = RecRequest("kafka", PERSON, "home", n=5, deadline_ms=5000)
            reply = await client.recommend(request, 10, traceparent=PARENT)
            asked = {"user_id": PERSON, "surface": "home", "request_id": "http", "deadline_ms": 5000}
            answer = await http.post("/recommendations", json=asked, headers={"traceparent": PARENT})
            many = await http.post(
                "/bulk", json=[asked | {"request_id": "bulk"}], headers={"traceparent": PARENT}
            )
            assert (answer.status_code, many.status_code) == (200, 200)

            async def whole() -> list[str]:
                return sorted(attributes(span)["headrace.request_id"] for span in found.whole())

            await until(whole, lambda ids: len(ids) >= 3)
            assert await whole() == ["bulk", "http", "kafka"], "those without the flag have no spans"
            seen = await until(
                lambda: scrape(here), lambda s: s.one("headrace_spans_total", outcome="written")
            )
            assert seen.one("headrace_spans_total", outcome="lost") == 0
    for span in found.whole():
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
        names = {each.name for each in found.below(span)}
        assert {
            "store",
            "sources",
            "merge",
            "filters",
            "features",
            "score",
            "rerank",
            "encode",
            "send",
        } <= names
        assert all(
            span.start_time_unix_nano <= each.start_time_unix_nano <= each.end_time_unix_nano
            and each.end_time_unix_nano <= span.end_time_unix_nano
            for each in found.below(span)
        )
    (one,) = (span for span in found.whole() if attributes(span)["headrace.request_id"] == "kafka")
    told = attributes(one)
    assert "queue" in {each.name for each in found.below(one)}
    assert (told["headrace.surface"], told["headrace.n"], told["headrace.items"]) == ("home", 5, 5)
    assert told["headrace.rung"] in {"full", "fewer", "first"}
    assert told["headrace.degraded"] == reply.degraded
    assert set(told["headrace.sources"]) == {source for item in reply.items for source in item.sources}
    assert reply.model is not None
    assert told["headrace.ranker"] == reply.model.ranker
    sent = b"".join(found.raw)
    assert sent
    assert not [s for s in (PERSON, "lovelace", "the-key", "item-") if s.encode() in sent]


async def test_a_collector_that_is_away_costs_no_answer(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    here = make_settings(data_dir=tmp_path, metrics_port=free_port(), otlp_endpoint=away, otlp_share=1.0)
    await make_topics(here)
    async with producer(here) as sender:
        await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
    async with worker(here, ["serve"]), RecClient(here, "m") as client:

        async def lost() -> float | None:
            reply = await client.recommend(RecRequest("r", "u", "home", n=5, deadline_ms=5000), 10)
            assert len(reply.items) == 5
            return (await scrape(here)).one("headrace_spans_total", outcome="lost")

        await until(lost, bool)


def test_without_an_endpoint_it_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None;"
        "import headrace.agents.recommend, headrace.agents.roles, headrace.agents.gateway;"
        "sys.exit('headrace.agents.stage.span_export' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_an_endpoint_without_the_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    assert run_headrace(monkeypatch, "worker", "serve") == 2
    assert "pip install 'headrace[otel]'" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "grpc://x:4317", "http://", "http://me:secret@x:4318"])
def test_an_endpoint_is_a_url_without_a_password(url: str) -> None:
    with pytest.raises(ValidationError, match="otlp_endpoint"):
        Settings(otlp_endpoint=url)
