"""The canary over a broker and Redis: it measures, sees a stopped stage, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fresh_topics import make_topics
from installation import ITEMS, dead_letters, producer, publish, read_all, until, worker
from scraped import Scraped, scrape

from headrace.console.verification.run import verify
from headrace.demo.embedded import free_port
from headrace.serving.requests import canary
from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import Event, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker
BUSY_S = 60.0


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Probes without a pause, limits that a busy machine keeps."""
    return settings.model_copy(
        update={
            "metrics_port": free_port(),
            "canary_every_s": 0.01,
            "canary_publish_every_s": 0.01,
            "canary_event_ms": 9000,
            "canary_publish_ms": 9000,
        }
    )


def counts(scraped: Scraped, outcome: str) -> dict[str, float]:
    return {probe: n for (probe,), n in scraped.all("headrace_canary_probes_total", outcome=outcome).items()}


async def test_it_measures_from_end_to_end_and_counts_nowhere(quick: Settings) -> None:
    await make_topics(quick)
    topics = Topics(quick)

    def enough(scraped: Scraped) -> bool:
        within = counts(scraped, "within")
        return (
            within.get("event", 0) >= 4 and within.get("publish", 0) >= 2 and within.get("withdraw", 0) >= 2
        )

    async with producer(quick) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
    async with worker(quick, ["ingest", "aggregate", "serve", "canary"]), RecClient(quick, "t") as client:
        scraped = await until(lambda: scrape(quick), enough, BUSY_S)
        for probe in ("event", "publish", "withdraw"):
            ended = scraped.one("headrace_canary_seconds_count", probe=probe)
            good, late = counts(scraped, "within")[probe], counts(scraped, "late")[probe]
            assert ended == good + late
            assert scraped.one("headrace_canary_objective_ratio", probe=probe) == 0.99
            share = scraped.one("headrace_canary_within_ratio", probe=probe)
            assert share == pytest.approx(good / (good + late + counts(scraped, "missed")[probe]))
        assert scraped.all("headrace_replies_total") == {}, "its lists are no replies to anybody"

        assert await read_all(quick, topics.item_events) == [], "its events count for no item"

        found: list[str] = []
        names = [canary.CARRIER, canary.SHOWN, canary.WITNESS, canary.GUEST]
        for more in ({}, {"candidates": names}):
            reply = await client.recommend(RecRequest("r", "reader", "home", n=200, **more), 10)
            assert reply.error is None
            found += [item.item_id for item in reply.items]
    assert "item-1" in found
    assert not [name for name in found if name.startswith(canary.RESERVED)]

    shown = [msgspec.json.decode(r.value) for r in await read_all(quick, topics.impressions)]
    assert {one["user_id"] for one in shown} <= {"reader"}
    events = [msgspec.json.decode(r.value, type=Event) for r in await read_all(quick, topics.events)]
    assert {event.type for event in events} == {"hide", "follow"}, "no model learns from these"
    assert await dead_letters(quick) == []
    async with worker(quick, ["ingest", "aggregate"]):
        await until(lambda: verify(quick), lambda verified: verified.exit_code == 0, BUSY_S)


async def test_what_does_not_come_is_missed_and_comes_back(
    quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `ingest`, no list reflects an event; items are fresh all the same."""
    await make_topics(quick)
    monkeypatch.setattr("headrace.agents.canary.WAIT_S", 1.0)

    def missed(scraped: Scraped) -> bool:
        published = counts(scraped, "within").get("publish", 0) + counts(scraped, "late").get("publish", 0)
        return counts(scraped, "missed").get("event", 0) >= 3 and published >= 1

    async def scraped_now() -> Scraped:
        return await scrape(quick)

    async with worker(quick, ["serve", "canary"]):
        before: Any = await until(scraped_now, missed, BUSY_S)
        assert counts(before, "within")["event"] == counts(before, "late")["event"] == 0
        assert before.one("headrace_canary_seconds_count", probe="event") in {None, 0}
        assert (before.one("headrace_canary_budget_left_ratio", probe="event") or 0) < 0
        other = quick.model_copy(update={"metrics_port": 0})
        async with worker(other, ["ingest"]):
            await until(scraped_now, lambda s: counts(s, "within").get("event", 0) >= 1, BUSY_S)
