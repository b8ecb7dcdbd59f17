"""``headrace explain`` over real topics: every traced reply is made again to the same bytes."""

from __future__ import annotations

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fresh_topics import make_topics
from installation import ITEMS, now_ms, producer, publish, read_all, until, worker
from oracle_examples import impression
from rich.console import Console
from taught_rankers import make_live, taught

from headrace.agents.stage.trace_lookup import traces_of
from headrace.console.explained import page
from headrace.console.explained.job import explain
from headrace.console.verification.traces_topic import Traces, traces_again
from headrace.models.learning.registry import Registry, folder_of
from headrace.oracle.compare.findings import Findings
from headrace.serving.requests.client import RecClient
from headrace.serving.traces import record
from headrace.streams.errors import ArtefactError, NoTraceError
from headrace.streams.messages.schemas import Event, ListRequest, RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

#: What is asked for.
ASKED: dict[str, dict[str, Any]] = {
    "home": {"explain": True},
    "digest": {"surface": "digest", "n": 30},
    "related": {"surface": "related", "item_id": "item-3"},
    "given": {"candidates": ["item-4", "item-1", "unknown", "item-9"]},
    "page": {
        "lists": [ListRequest("home", 5), ListRequest("related", 4, "item-2"), ListRequest("digest", 6)]
    },
}


@pytest.fixture
def traced(settings: Settings, tmp_path: Path) -> Settings:
    changes = {
        "partitions": 2,
        "data_dir": tmp_path,
        "trace_share": 1.0,
        "rules": {"epsilon": "0.2"},
        "shown_rest_s": 0.0,  # every list has the same items to choose from
        "shown_most": 1000,
    }
    return settings.model_copy(update=changes)


async def registered(settings: Settings, sender: BatchSender, sign: int) -> str:
    """Register a ranker that likes items with clicks, or with -1 those without; the first one is live."""
    value, version = taught(sign, 4000)
    Registry(folder_of(settings)).add(value, "imported")
    if sign > 0:
        await make_live(settings, sender, version, value)
    return version


async def clicks(settings: Settings, sender: BatchSender) -> None:
    out = []
    for n in range(60):
        user = f"u{n % 6}"
        out.append((user, Event(f"e{n}", "click", user, f"item-{(n * 7) % 40}", now_ms() - 60_000 + n * 900)))
    await publish(sender, Topics(settings).events, out)


async def replies(settings: Settings, client: RecClient) -> dict[str, RecReply]:
    out = {}
    for name, asked in ASKED.items():
        for user in ("u1", "somebody"):
            request = RecRequest(f"{name}-{user}", user, **{"surface": "home", "deadline_ms": 9000, **asked})
            out[request.request_id] = await client.recommend(request, 20.0)
    return out


async def late_replies(settings: Settings, sender: BatchSender) -> dict[str, bytes]:
    """Ask for lists whose deadline is over; return the bytes of the replies."""
    topics, wanted = Topics(settings), {"late", "late-told", "late-short"}
    headers = [("reply_to", topics.replies.encode()), ("correlation_id", b"1")]
    for name in sorted(wanted):
        asked = RecRequest(name, "u1", "home", 5, explain=name == "late-told", deadline_ms=1)
        asked.exclude = [f"item-{n}" for n in range(58)] if name == "late-short" else []
        out = (b"u1", msgspec.json.encode(asked), now_ms() - 5000, headers)
        await sender.send_keyed(topics.requests, [out])

    async def read() -> dict[str, bytes]:
        bodies = [bytes(r.value) for r in await read_all(settings, topics.replies)]
        return {msgspec.json.decode(body)["request_id"]: body for body in bodies}

    found: dict[str, bytes] = await until(read, lambda found: wanted <= found.keys())
    return {name: found[name] for name in wanted}


async def test_every_reply_is_made_again_to_the_same_bytes(traced: Settings) -> None:
    await make_topics(traced)
    async with producer(traced) as sender:
        await publish(sender, Topics(traced).items, [(i.item_id, i) for i in ITEMS])
        await clicks(traced, sender)
        async with worker(traced, ["ingest", "aggregate", "serve"]), RecClient(traced, "explain") as client:
            early = await client.recommend(RecRequest("early", "u1", "home", deadline_ms=9000), 20.0)
            version, other = await registered(traced, sender, 1), await registered(traced, sender, -1)

            async def ranked() -> tuple[str, bool]:
                asked = RecRequest("again", "u1", "home", deadline_ms=9000)
                reply = await client.recommend(asked, 20.0)
                clicks_count = len({one.score for one in reply.items}) > 1
                return (reply.model.ranker if reply.model else "", clicks_count)

            await until(ranked, lambda found: found == (version, True))
            sent = {"early": early} | await replies(traced, client)
            late = await late_replies(traced, sender)
        assert len(await read_all(traced, Topics(traced).traces)) >= 1 + 2 * (len(ASKED) + 2)

        for name, reply in sent.items():
            figures = await explain(traced, name, other)
            assert (figures["same"], [one["differs"] for one in figures["lists"]]) == (
                True,
                [[]] * parts(name),
            )
            assert msgspec.json.decode(figures["reply"], type=RecReply) == reply
            assert all(one["taken_from_the_log"] == [] for one in figures["lists"])
            by = "ranker" if reply.model and reply.model.ranker else "blend"
            assert {one["scorer"] for one in figures["lists"]} == {by}
            assert len([one for one in figures["lists"] if "instead" in one]) == parts(name)
            text = printed(figures)
            assert "the same bytes" in text
            assert all(one.item_id in text for one in reply.items)
        for name, body in late.items():
            figures = await explain(traced, name, other)
            assert (figures["same"], figures["reply"].encode()) == (True, body)
            (popular,) = figures["lists"]
            assert (popular["degraded"][0], popular["scorer"], len(popular["slots"]) > 0) == (
                "deadline",
                "",
                True,
            )
            assert "the same bytes" in printed(figures)

        home = (await explain(traced, "home-u1", other))["lists"][0]
        assert home["instead"]["same_slots"] < len(home["slots"]), "it likes other items"
        assert all(slot["sources"] and slot["features"] and slot["why"] for slot in home["slots"])
        assert {f["filter"] for f in home["filters"]} > {"filter:country", "filter:age"}
        (one,) = (await explain(traced, "page-u1/2"))["lists"]
        assert [s["item_id"] for s in one["slots"]] == [i.item_id for i in sent["page-u1"].lists[1].items]

        with pytest.raises(NoTraceError, match="no trace of request nobody"):
            await explain(traced, "nobody")
        with pytest.raises(ArtefactError, match="000000000000"):
            await explain(traced, "home-u1", "000000000000")
        sound = await traces_again(traced, margin_ms=0)
        assert (sound.differ, sound.lacking, sound.unsure) == ([], [], 0)
        assert sound.made == len(await read_all(traced, Topics(traced).traces))
        assert sound.shown > 2 * (len(ASKED) - 2)
        await tampered(traced, sender)
        await publish(
            sender, Topics(traced).impressions, [("u1", impression("nobody", [], now_ms(), user="u1"))]
        )
        verified(await traces_again(traced, margin_ms=0))


def verified(found: Traces) -> None:
    """Look at what the verification says of the tampered trace, and of a list without a trace."""
    assert found.lacking == ["nobody"]
    assert [name for name, _ in found.differ] == ["home-u1"]
    findings = Findings()
    found.tell(findings)
    assert findings.differences == 2
    assert {(one["row"], one["feature"]) for one in findings.first_as_dicts()} == {
        ("request home-u1", "list made again"),
        ("request nobody", "trace"),
    }


def parts(name: str) -> int:
    return 3 if name.startswith("page") else 1


def printed(figures: Any) -> str:
    out = StringIO()
    page.show(Console(file=out, width=400), figures)
    return out.getvalue()


async def tampered(settings: Settings, sender: BatchSender) -> None:
    """Write the trace of a request again, with other features: it is named."""
    (trace,) = await traces_of(settings, "home-u1")
    assert trace.ranked is not None
    features = trace.ranked.features
    trace.ranked.features = np.where(features == 0, 3, features).astype(np.float32)
    value = await asyncio.to_thread(record.encode, trace)
    await sender.send_keyed(Topics(settings).traces, [(b"home-u1", value, None, ())])
    figures = await explain(settings, "home-u1")
    assert not figures["same"]
    assert any(line.startswith("scores: those of") for line in figures["lists"][0]["differs"])
    assert "differs: scores: those of" in printed(figures)
