"""A dashboard on a real port, with figures and people in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headrace.agents.stage.http_server import HttpServer
from headrace.demo.embedded import free_port
from headrace.serving.gateway.guard import Guard
from headrace.serving.gateway.kept import Clicked, KeptItem, KeptUser, Named, ShownOften, Taste
from headrace.serving.monitor.board import Board
from headrace.serving.monitor.routes import Routes, is_open
from headrace.streams.messages.schemas import Item

#: A title that becomes an image, and a script, where somebody makes HTML of it.
EVIL = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>'
AT = 1_700_000_000_000
COUNTS = {"click": 3, "shown": 40}


class People:
    """What is kept of ``user-1`` and ``item/1``; what was asked for."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, str, str]] = []
        self.trouble: Exception | None = None

    async def user(self, user_id: str, names: bool) -> KeptUser | None:
        if self.trouble is not None:
            raise self.trouble
        if user_id != "user-1":
            return None
        item = Named(id="item/1", title=EVIL)
        return KeptUser(
            user_id=user_id, profile=None, last_seen_ts=AT, country=Named(id="DE"), session_clicks=2,
            totals=COUNTS,
            windows={"1h": COUNTS}, recent_clicks=[Clicked(item, AT)],
            categories=[Taste(Named(id=EVIL), 1.5)],
            creators=[Taste(Named(hash="00000000000000ff"), -0.5)], hidden_items=[], hidden_creators=[],
            shown=[ShownOften(item, AT, 3, True)], names_complete=False,
        )  # fmt: skip

    async def item(self, item_id: str) -> KeptItem | None:
        if item_id != "item/1":
            return None
        item = Item(item_id=item_id, title=EVIL, category="sport", published_ts=AT)
        return KeptItem(item_id, item, AT, COUNTS, {"1h": COUNTS})

    async def list_now(self, user_id: str, surface: str, model: str = "") -> dict[str, Any]:
        self.listed.append((user_id, surface, model))
        slot = {"item_id": "item/1", "score": 0.25, "objectives": {"click": 0.4}, "sources": ["hot"]}
        slot["why"] = [EVIL, "new"]
        items = [slot, *({**slot, "item_id": f"i{n}", "why": ["popular"]} for n in (2, 3, 4))]
        rankers = [{"version": "aa11", "use": "live"}, {"version": "bb22", "use": "candidate, 10 %"}]
        reply = {"request_id": "r", "items": items, "took_ms": 7.0, "model": {"ranker": "aa11"}}
        found: dict[str, Any] = {
            "reply": reply,
            "titles": {"item/1": EVIL, "i2": "two"},
            "rankers": rankers,
        }
        if model:
            order = [("i3", 3), ("i2", 2), ("item/1", 1), ("i9", None)]
            slots = [
                {"slot": n, "item_id": item, "was": was, "score": 0.5, "score_was": 0.25}
                for n, (item, was) in enumerate(order, 1)
            ]
            found["instead"] = {
                "model": model,
                "compared": 103,
                "same_slots": 1,
                "slots": slots,
                "not_shown_any_more": ["i4"],
            }
        return found


def lag_row(agent: str = "ingest", **fields: Any) -> dict[str, Any]:
    row = {"agent": agent, "topic": "events", "partitions": 2, "records": 12, "seconds": 1.5, "deleted": 0}
    return {**row, "trend": -3.0, "members": ["m"], "member": "m", "verdict": "OK", **fields}


PREFIXES = ("lag", "records", "reply", "stage", "replies", "rungs", "clicks", "age")


def fill_board(board: Board, at_ms: int, points: int, series: int = 40) -> None:
    """Put in 30 days of points of 40 series, ``points`` of them in the last minutes, and a set of figures."""
    names = [f"{prefix}:{i}" for i in range(max(1, series // len(PREFIXES))) for prefix in PREFIXES]
    now = at_ms // 1000
    for hour in range(720, 0, -1):
        board.series.add(now - 3600 * hour, {name: (hour * i) % 17 / 10 for i, name in enumerate(names)})
    for back in range(points, 0, -1):
        board.series.add(now - 2 * back, {name: (back * i) % 13 / 10 for i, name in enumerate(names)})
    publish(board, at_ms, names)


def publish(board: Board, at_ms: int, names: list[str], **changed: Any) -> None:
    """Publish a set of figures with a new point."""
    rows = [lag_row(), lag_row("learn", seconds=None, trend=None)]
    worker = {"worker": "serve:9464", "trouble": "", "roles": ["serve"], "version": "0", "cpu": 0.1}
    arm = {"arm": "live", "version": "aa11", "examples": 100, "clicks": 9, "rate": 0.09}
    clicks = {"ranker": "aa11", "shown": 1000, "clicked": 90, "rate": 0.09, "low": 0.0738, "high": 0.1093}
    rankers = {
        "kind": "ranker",
        "versions": [{"version": "aa11", "use": "live", "auc": 0.71, "created": at_ms}],
        "by": "",
        "reason": "",
        "since": at_ms,
        "stage": "10 %",
        "arms": [{**arm, "low": 0.05, "high": 0.15}],
        "differences": {"clicks": {"value": 0.1, "low": -0.1, "high": 0.3}},
    }
    figures: dict[str, Any] = {
        "lag": {"verdict": "OK", "rows": rows, "missing": [], "at": at_ms, "error": ""},
        "workers": [{**worker, "memory": 3e8, "models": []}],
        "models": [rankers],
        "letters": [{"agent": "track_users", "reason": EVIL, "letters": 4}],
        "clicks": [clicks],
        "index": [{"worker": "serve:9464", "items": 500, "tail": 20, "merge_age": None, "recall": 0.97}],
        **changed,
    }
    figures["point"] = {"at": at_ms, "values": board.point(at_ms / 1000, dict.fromkeys(names, 1.25))}
    board.publish(at_ms, **figures)


@asynccontextmanager
async def dashboard(board: Board, people: People | None = None, token: str = "") -> AsyncIterator[str]:
    """Serve a dashboard; yield its URL."""
    port = free_port()
    app = Guard(Routes(board, people or People()).app(), token, 64, lambda *_: None, is_open)
    server = HttpServer(app, "127.0.0.1", port, 10.0, "monitor")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        board.close()
        await server.stop()
