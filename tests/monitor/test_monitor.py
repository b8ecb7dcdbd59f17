"""The role monitor on a running installation: lag, points, a user, an item, and what is left of a look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fresh_topics import make_topics
from gateways import TOKEN
from installation import ITEMS, now_ms, producer, publish, read_all, until, worker
from taught_rankers import make_live, taught

from headrace.agents.monitor import traced_id
from headrace.agents.stage.http_token import token_of
from headrace.demo.embedded import free_port
from headrace.serving.traces.made import is_traced
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender


@pytest.fixture
async def here(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of an installation whose one process serves metrics and a dashboard."""
    await make_topics(settings)
    metrics = free_port()
    return settings.model_copy(
        update={
            "data_dir": tmp_path,
            "metrics_port": metrics,
            "monitor_port": free_port(),
            "monitor_targets": (f"127.0.0.1:{metrics}",),
        }
    )


def reader(settings: Settings) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.monitor_port}", timeout=30)


async def now(http: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await http.get("/now")).json())


def with_lag(found: dict[str, Any]) -> bool:
    return {row["agent"] for row in (found["lag"] or {}).get("rows", ())} >= {"ingest", "aggregate", "serve"}


@pytest.mark.broker
async def test_it_shows_a_running_installation_and_leaves_no_trace(here: Settings) -> None:
    topics = Topics(here)
    async with producer(here) as sender:
        await publish(sender, topics.items, [(item.item_id, item) for item in ITEMS])
        event = Event(event_id="e-1", type="click", user_id="user-1", item_id="item-1", ts=now_ms())
        await publish(sender, topics.events, [("user-1", event)])
        await publish(sender, topics.events, [("user-1", b"not an event")])
    async with worker(here, ["ingest", "aggregate", "serve", "monitor"], within_s=60), reader(here) as http:
        found = await until(lambda: now(http), with_lag, 60)
        assert found["lag"]["missing"] == []
        found = await until(lambda: now(http), lambda f: bool(f.get("letters")), 60)
        assert {(row["agent"], row["letters"]) for row in found["letters"]} == {("track_users", 1)}
        (one,) = found["workers"]
        assert one["roles"] == ["aggregate", "ingest", "monitor", "serve"]
        assert one["trouble"] == ""

        async def user() -> dict[str, Any]:
            return dict((await http.get("/users/user-1")).json())

        kept = await until(user, lambda kept: bool(kept.get("recent_clicks")), 60)
        assert kept["recent_clicks"][0]["item"] == {"id": "item-1", "title": "story 1"}
        assert (await http.get("/items/item-1")).json()["item"]["title"] == "story 1"

        async def listed() -> dict[str, Any]:
            return dict((await http.get("/lists/user-1")).json())

        made = await until(listed, lambda made: bool(made.get("reply", {}).get("items")), 90)
        first = made["reply"]["items"][0]
        assert first["why"]
        assert made["titles"][first["item_id"]].startswith("story ")
        history = (await http.get("/history/15m")).json()
        assert any(value is not None for value in history["values"]["lag:ingest"])
    assert await read_all(here, topics.impressions) == []  # a look at a user is not shown to the user
    async with worker(here, ["monitor"], within_s=60), reader(here) as http:
        again = (await http.get("/history/15m")).json()
        assert any(value is not None for value in again["values"]["lag:ingest"])  # from the file


async def on_models(settings: Settings, sender: BatchSender, sign: int) -> str:
    """Put a ranker on `models` that likes items with clicks, or with -1 those without; it is live then."""
    value, version = taught(sign, 2000)
    await make_live(settings, sender, version, value)
    return version


@pytest.mark.broker
async def test_a_list_is_made_under_another_ranker_too(here: Settings) -> None:
    topics = Topics(here)
    traced = here.model_copy(update={"trace_share": 0.05})
    async with producer(traced) as sender:
        await publish(sender, topics.items, [(item.item_id, item) for item in ITEMS])
        clicks = [Event(f"e{n}", "click", f"u{n}", f"item-{n % 7}", now_ms()) for n in range(40)]
        await publish(sender, topics.events, [(one.user_id, one) for one in clicks])
        other, live = await on_models(traced, sender, -1), await on_models(traced, sender, 1)
    async with (
        worker(traced, ["ingest", "aggregate", "serve", "monitor"], within_s=60),
        reader(traced) as http,
    ):

        async def listed(**query: str) -> dict[str, Any]:
            return dict((await http.get("/lists/u1", params=query)).json())

        made = await until(
            listed, lambda m: (m.get("reply", {}).get("model") or {}).get("ranker") == live, 90
        )
        assert made["rankers"] == [{"version": live, "use": "live"}, {"version": other, "use": "previous"}]
        assert "instead" not in made

        async def under() -> dict[str, Any]:
            return await listed(model=other)

        both = await until(under, lambda m: "instead" in m and m["instead"]["same_slots"] < 20, 60)
        same = await until(lambda: listed(model=live), lambda m: "instead" in m, 60)
        unknown = await http.get("/lists/u1", params={"model": "nothing"})
    now_ids = [item["item_id"] for item in both["reply"]["items"]]
    slots = both["instead"]["slots"]
    assert both["instead"]["model"] == other
    assert [slot["was"] for slot in slots] == [
        now_ids.index(slot["item_id"]) + 1 if slot["item_id"] in now_ids else None for slot in slots
    ]
    assert set(both["instead"]["not_shown_any_more"]) == set(now_ids) - {slot["item_id"] for slot in slots}
    assert {slot["item_id"] for slot in slots} | set(now_ids) <= both["titles"].keys()
    assert same["instead"]["same_slots"] == len(same["reply"]["items"]) == 20
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (404, "model")
    assert await read_all(here, topics.impressions) == []


def test_without_traces_it_says_why_there_is_no_other_list() -> None:
    assert is_traced(traced_id(0.01), 0.01)
    with pytest.raises(UnavailableError, match="HEADRACE_TRACE_SHARE is 0"):
        traced_id(0.0)


@pytest.mark.broker
async def test_a_bad_file_of_points_does_not_stop_it(here: Settings, tmp_path: Path) -> None:
    (tmp_path / here.name("monitor.points")).write_bytes(b"something else")
    async with worker(here, ["monitor"], within_s=60), reader(here) as http:
        assert (await http.get("/history/15m")).status_code == 200


def test_another_address_needs_a_token() -> None:
    everywhere = Settings(monitor_host="0.0.0.0")  # noqa: S104
    with pytest.raises(ConfigError, match=r"HEADRACE_MONITOR_HOST=0\.0\.0\.0 is not loopback"):
        token_of(everywhere, "monitor")
    assert token_of(everywhere.model_copy(update={"monitor_token": TOKEN}), "monitor") == TOKEN
    with pytest.raises(ConfigError, match="the token of the monitor"):
        token_of(everywhere.model_copy(update={"monitor_token": "short"}), "monitor")
    assert TOKEN not in repr(everywhere.model_copy(update={"monitor_token": TOKEN}))
