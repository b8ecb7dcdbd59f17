"""The gateway as a process: it ends cleanly, says what is wrong, and answers without a broker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fresh_topics import make_topics
from gateways import TOKEN, caller, gateway, url_of, with_gateway
from installation import now_ms, until
from project import ROOT
from scraped import scrape

from headrace.agents import gateway as gateway_module
from headrace.demo.embedded import EmbeddedBroker, free_port
from headrace.demo.stack import environment
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

pytestmark = pytest.mark.broker


def event(event_id: str) -> dict[str, object]:
    return {"event_id": event_id, "type": "click", "user_id": "u", "item_id": "i", "ts": now_ms()}


@asynccontextmanager
async def process(settings: Settings, role: str = "gateway") -> AsyncIterator[asyncio.subprocess.Process]:
    env = {**environment(settings), "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "worker", role,
        env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def answers(http: httpx.AsyncClient) -> int:
    try:
        return (await http.get("/ready")).status_code
    except httpx.TransportError:
        return 0


async def test_a_signal_ends_it_after_what_is_in_flight(settings: Settings, tmp_path: Path) -> None:
    """The token comes from a file. The request gets its answer, new ones are not taken, nothing is left."""
    (tmp_path / "token").write_text(TOKEN)
    here = with_gateway(
        settings, gateway_token_file=str(tmp_path / "token"), gateway_reply_ms=2500, data_dir=tmp_path
    )
    await make_topics(here)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        process(here) as running,
        httpx.AsyncClient(base_url=url_of(here), headers=headers, timeout=30) as http,
    ):
        await until(lambda: answers(http), lambda status: status == 200, timeout=60)
        list_of = "/recommendations?user_id=u&surface=home&deadline_ms=1"
        waiting = asyncio.create_task(http.get(list_of))  # nobody serves: it waits for its whole time
        written = await http.post("/events", json=event("e1"))
        running.send_signal(signal.SIGTERM)
        answer = await waiting
        out, err = await asyncio.wait_for(running.communicate(), 30)
    assert written.status_code == 200
    assert answer.status_code == 504
    assert running.returncode == 0, err.decode()
    assert TOKEN.encode() not in out + err
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", here.gateway_port)


async def test_another_address_without_a_token_is_one_line_and_an_exit_code(
    settings: Settings, tmp_path: Path
) -> None:
    here = with_gateway(settings, gateway_host="0.0.0.0", data_dir=tmp_path)  # noqa: S104
    await make_topics(here)
    async with process(here) as running:
        _, err = await asyncio.wait_for(running.communicate(), 60)
    assert running.returncode == 2
    assert "is not loopback: set HEADRACE_GATEWAY_TOKEN" in err.decode()
    assert "Traceback" not in err.decode()


async def test_a_port_that_is_taken_ends_the_worker_and_leaves_nothing(settings: Settings) -> None:
    here = with_gateway(settings)
    await make_topics(here)
    before = asyncio.all_tasks()
    with (
        socket.create_server(("127.0.0.1", here.gateway_port)),
        pytest.raises(ConfigError, match=f"HEADRACE_GATEWAY_PORT={here.gateway_port}"),
    ):
        async with gateway(here):
            pass
    await until(lambda: left_of(before), lambda left: not left)


async def left_of(before: set[asyncio.Task[object]]) -> set[str]:
    """Return the new tasks, but for the one by which the helper waits for a worker to be ready."""
    others = ("left_of", "Event.wait")
    found = {repr(task.get_coro()) for task in asyncio.all_tasks() - before}
    return {name for name in found if not any(other in name for other in others)}


async def test_while_its_broker_is_away_it_says_so(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gateway_module, "WRITE_S", 1.0)
    broker = EmbeddedBroker()
    broker.start()
    try:
        here = with_gateway(
            Settings(brokers=broker.bootstrap, redis_url=redis_url, topic_prefix="away-", data_dir=tmp_path)
        )
        await make_topics(here)
        async with gateway(here) as http:
            assert (await http.post("/events", json=event("e1"))).status_code == 200
            broker.stop()
            lost = await http.post("/events", json=[event("e2"), {"event_id": "bad"}])
            item = await http.put("/items/i", json={"published_ts": now_ms()})
            asked = await http.get("/recommendations?user_id=u&surface=home&deadline_ms=1")
            await until(lambda: answers(http), lambda status: status == 503, timeout=20)
            assert (await http.get("/health")).status_code == 200
    finally:
        broker.stop()
    assert lost.status_code == 503
    assert [e["error"]["code"] for e in lost.json()["events"]] == ["unavailable", "missing_field"]
    assert item.status_code == 503
    assert item.json()["error"]["code"] == "unavailable"
    assert asked.status_code in (503, 504)
    assert asked.json()["request_id"].startswith("http-")


async def test_what_it_does_is_measured(settings: Settings) -> None:
    here = with_gateway(settings, metrics_port=free_port(), gateway_token=TOKEN)
    await make_topics(here)
    async with gateway(here) as http:
        await http.post("/events", json=[event("e1"), {"event_id": "bad"}])
        await http.put("/items/i", json={})
        await http.get("/nowhere/else")
        async with caller(here.model_copy(update={"gateway_token": ""})) as stranger:
            await stranger.get("/users/u")
        seen = await scrape(here)
    requests = seen.all("headrace_gateway_requests_total")
    assert requests == {
        ("POST /events", "207"): 1.0,
        ("PUT /items", "400"): 1.0,
        ("other", "404"): 1.0,
        ("GET /users", "401"): 1.0,
    }
    assert seen.one("headrace_gateway_seconds_count", route="POST /events") == 1
    assert seen.one("headrace_gateway_open_requests") == 0
    assert seen.one("headrace_gateway_refused_total", topic="events", reason="missing_field") == 1
    assert seen.one("headrace_gateway_refused_total", topic="items", reason="missing_field") == 1
