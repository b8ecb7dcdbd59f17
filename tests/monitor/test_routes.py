"""The routes of the dashboard over real HTTP: the page, the figures, who may read them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from dashboards import EVIL, People, dashboard, fill_board, publish
from gateways import TOKEN
from installation import now_ms

from headrace.serving.monitor.board import RANGES, Board
from headrace.serving.monitor.routes import FILES
from headrace.streams.errors import UnavailableError

DATA = ["/now", "/stream", "/history/15m", "/users/user-1", "/items/item%2F1", "/lists/user-1"]


async def events(lines: Any, n: int) -> list[dict[str, Any]]:
    """Return the next sets of figures of a stream."""
    out: list[dict[str, Any]] = []
    async for line in lines:
        if line.startswith("data: "):
            out.append(json.loads(line[6:]))
        if len(out) == n:
            break
    return out


async def test_the_page_is_all_there_and_asks_for_nothing_else() -> None:
    async with dashboard(Board()) as url, httpx.AsyncClient(base_url=url) as http:
        for name, kind in FILES.items():
            answer = await http.get(f"/page/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == kind
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            for asked in re.findall(r'(?:src|href|from) ?=? ?"(/[^"]*)"', answer.text):
                assert (await http.get(asked)).status_code == 200, asked
            if name != "uplot.js":  # its comment has the address of its project
                assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
                assert "https://" not in answer.text
                assert "innerHTML" not in answer.text
        html = (await http.get("/")).text
        assert "<script>" not in html
        assert " on" not in re.sub(r">[^<]*<", "><", html).replace(" on-", "")
        assert (await http.get("/page/..%2Froutes.py")).status_code == 404
        assert (await http.get("/page/uplot.LICENSE.txt")).status_code == 404


async def test_without_the_token_there_are_no_figures() -> None:
    people = People()
    async with dashboard(Board(), people, TOKEN) as url, httpx.AsyncClient(base_url=url) as http:
        for path in DATA:
            assert (await http.get(path)).status_code == 401, path
        assert (await http.get("/")).status_code == 200
        assert (await http.get("/health")).status_code == 200
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await http.get("/now", headers=headers)).status_code == 200
    assert people.listed == []


async def test_without_a_token_another_name_of_this_machine_gets_no_figures() -> None:
    async with dashboard(Board()) as url, httpx.AsyncClient(base_url=url) as http:
        for path in DATA:
            answer = await http.get(path, headers={"Host": "evil.example"})
            assert answer.status_code == 400, path


async def test_a_stream_has_the_figures_of_now_and_every_change() -> None:
    board = Board()
    publish(board, 1_000_000, ["lag:ingest"])
    async with (
        dashboard(board) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        http.stream("GET", "/stream") as first,
        http.stream("GET", "/stream") as second,
    ):
        assert first.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in first.headers
        one, other = first.aiter_lines(), second.aiter_lines()
        for lines in (one, other):
            (found,) = await events(lines, 1)
            assert found["point"]["values"] == {"lag:ingest": 1.25}
            assert found["letters"][0]["reason"] == EVIL
        board.publish(1_002_000, lag={"error": "no broker"})
        for lines in (one, other):
            (found,) = await events(lines, 1)
            assert found["at"] == 1_002_000
            assert found["lag"] == {"error": "no broker"}
            assert found["letters"]
        board.close()
        assert await asyncio.wait_for(events(one, 5), 30) == []


@pytest.mark.parametrize("later", [False, True])
async def test_figures_that_are_held_come_with_the_next_ones_or_after_a_while(
    monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    monkeypatch.setattr("headrace.serving.monitor.board.HELD_S", 0.05 if later else 1000.0)
    board = Board()
    board.publish(1000, lag=None)
    stream = board.stream()
    assert json.loads((await anext(stream))[6:]) == {"lag": None, "at": 1000}
    board.hold(2000, workers=["w"])
    assert json.loads(board.frame) == {"lag": None, "workers": ["w"], "at": 2000}, "a new page has them"
    found = asyncio.ensure_future(anext(stream))
    if not later:
        for _ in range(5):
            await asyncio.sleep(0)
        board.publish(3000, lag={"error": ""})
    told = json.loads((await asyncio.wait_for(found, 30))[6:])
    assert told == {"lag": None if later else {"error": ""}, "workers": ["w"], "at": 2000 if later else 3000}
    board.close()


async def test_history_is_small_and_has_thirty_days() -> None:
    board = Board()
    at = now_ms()
    fill_board(board, at, 450)
    async with dashboard(board) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        for name, (_, buckets) in RANGES.items():
            found = (await http.get(f"/history/{name}")).json()
            assert all(len(row) == buckets for row in found["values"].values())
            assert 0 <= at / 1000 - found["end"] < 2 * found["step"]
        assert found["step"] * buckets == 30 * 24 * 3600
        row = found["values"]["lag:0"]
        assert sum(value is not None for value in row) >= 719
        wire = await http.get("/history/30d", headers={"Accept-Encoding": "gzip"})
        assert wire.headers["content-encoding"] == "gzip"
        assert int(wire.headers["content-length"]) < 200_000
        answer = await http.get("/history/1y")
        assert answer.status_code == 404
        assert "15m" in answer.json()["error"]["message"]


async def test_people_and_items() -> None:
    people = People()
    async with dashboard(Board(), people) as url, httpx.AsyncClient(base_url=url) as http:
        user = (await http.get("/users/user-1")).json()
        assert user["shown"][0]["item"] == {"id": "item/1", "title": EVIL}
        assert (await http.get("/items/item%2F1")).json()["item"]["title"] == EVIL
        listed = (await http.get("/lists/user-1", params={"surface": "digest"})).json()
        assert listed["reply"]["items"][0]["why"][0] == EVIL
        both = (await http.get("/lists/user-1", params={"model": "bb22"})).json()
        assert both["instead"]["model"] == "bb22"
        assert people.listed == [("user-1", "digest", ""), ("user-1", "home", "bb22")]
        refused = await http.get("/lists/user-1", params={"model": "b" * 65})
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, "model")
        assert (await http.get("/users/nobody")).status_code == 404
        assert (await http.get("/items/nothing")).status_code == 404
        assert (await http.get("/lists/user-1?surface=related")).status_code == 400
        assert (await http.get(f"/users/{'u' * 65}")).status_code == 400
        assert (await http.post("/users/user-1")).status_code == 405
        people.trouble = UnavailableError("Redis is away")
        away = await http.get("/users/user-1")
        assert (away.status_code, away.json()["error"]["message"]) == (503, "Redis is away")


@pytest.mark.parametrize("path", ["/events", "/recommendations", "/users", "/page/none.js"])
async def test_nothing_else_is_there(path: str) -> None:
    async with dashboard(Board()) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get(path)).status_code == 404
