"""An installation that version 0.1.0 has left goes on with this version: nothing lost, nothing twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fresh_topics import make_topics
from installation import until, worker
from recorded import put_back, recorded

from headrace.console.upgrading.offline import StillRunningError
from headrace.console.upgrading.rebuild import rebuild
from headrace.console.verification.run import verify
from headrace.serving.requests.client import RecClient
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables import changelog
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

#: The recording ages: rows of it must not expire, and its events must not be too old for Redis.
AGELESS = 100 * 365 * 24 * 3600


@pytest.fixture
def old(make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # A large installation: rows and their tombstones are in different batches.
    monkeypatch.setattr(changelog, "APPLY_ROWS", 20)
    told = next(line["settings"] for line in recorded() if "settings" in line)
    settings: Settings = make_settings(
        **told, data_dir=tmp_path, durable_every_ms=500, state_ttl_s=AGELESS, user_ttl_s=AGELESS
    )
    return settings


async def _caught_up(settings: Settings) -> None:
    async def behind() -> int:
        return sum(r.records for r in await lag(settings) if r.agent in ("ingest", "aggregate"))

    await until(behind, lambda records: records == 0, timeout=60)


async def _more(settings: Settings, first: int, count: int) -> None:
    """Send more events of the recorded users, and of new ones."""
    events = [r for r in _events(settings) if isinstance(r["ts"], int)]
    newest = max(e["ts"] for e in events)
    sender = BatchSender(settings)
    await sender.start()
    records = []
    for n in range(first, first + count):
        event = {
            "event_id": f"later-{n}", "type": ("click", "like", "skip")[n % 3], "user_id": f"user-{n % 50}",
            "item_id": f"item-{n % 70}", "ts": newest + n, "context": {"country": "FR"},
        }  # fmt: skip
        records.append((event["user_id"].encode(), json.dumps(event).encode(), newest + n, ()))
    await sender.send_keyed(Topics(settings).events, records)
    await sender.stop()


def _events(settings: Settings) -> list[dict[str, Any]]:
    out, topic = [], ""
    for line in recorded():
        topic = line.get("topic", topic)
        if "at" in line and topic == "events":
            out.append(json.loads(base64.b64decode(line["value"])))
    return out


async def test_rows_of_0_1_0_stop_the_workers_until_they_were_upgraded(old: Settings) -> None:
    await put_back(old)
    await make_topics(old)
    with pytest.raises(HeadraceError, match="headrace upgrade"):
        async with worker(old, ["ingest"]):
            pass


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("steps", [None, 11])
async def test_an_installation_of_0_1_0_goes_on(old: Settings, steps: int | None) -> None:
    """``steps``: how many steps of the first upgrade are done before it is killed."""
    await put_back(old)
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        if len(told) == steps:
            raise _KilledError

    if steps:
        with pytest.raises(_KilledError):
            await rebuild(old, say)
    done = await rebuild(old, say)
    t = Topics(old)
    assert steps or set(done.found) == {t.user_state, t.item_features, t.item_countries, t.neighbours}
    assert steps or t.shown_state in done.created
    async with worker(old, ["ingest", "aggregate", "learn", "log", "serve"]):
        await _more(old, 0, 300)
        await _caught_up(old)
        result = await verify(old)
        async with RecClient(old, timeout_s=20) as client:
            reply = await client.recommend(RecRequest("upgraded", "user-1", "home", n=10))
        assert len(reply.items) == 10
        with pytest.raises(StillRunningError, match="ingest"):
            await rebuild(old, say)
    assert (result.differences, result.first) == (0, [])
    recorded_events = _events(old)
    bad = sum(not isinstance(e["ts"], int) for e in recorded_events)
    assert (result.events, result.rejected) == (len(recorded_events) + 300, bad)
    assert result.accepted == result.events - result.rejected - result.duplicates
    assert result.users >= 50
    assert result.compared["items shown lately"] > 300, "rows that 0.1.0 did not have are made, too"
    assert not (await rebuild(old, say)).found, "there is nothing to do any more"
