"""Who may call, and what bounds a caller: on the pure application, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_app import application
from gateways import TOKEN

from headrace.agents.gateway import token_of
from headrace.serving.gateway.guard import is_loopback, route_of
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings

LIST = "/recommendations?user_id=u&surface=home"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff"],
)
async def test_without_the_token_nothing_is_answered(authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    async with application(TOKEN) as (http, memory, _):
        for method, path in [
            ("GET", LIST),
            ("POST", "/events"),
            ("DELETE", "/users/u"),
            ("GET", "/openapi.json"),
        ]:
            answer = await http.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "unauthorized"
            assert TOKEN not in answer.text
        assert memory.written == []
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/ready")).status_code == 503


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_with_the_token_everything_is(scheme: str) -> None:
    async with application(TOKEN, host="gateway.example") as (http, _, _):
        answer = await http.get(LIST, headers={"Authorization": f"{scheme} {TOKEN}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("[::1]", 200), ("evil.example", 400)])
async def test_without_a_token_only_names_of_this_machine_are_answered(host: str, status: int) -> None:
    async with application(host=host) as (http, _, _):
        assert (await http.get(LIST)).status_code == status


async def test_one_request_too_many_gets_503_and_the_others_are_answered() -> None:
    async with application(most=3) as (http, memory, measured):
        memory.let_go.clear()
        waiting = [asyncio.create_task(http.get(LIST)) for _ in range(3)]
        for _ in waiting:
            await memory.asked.acquire()
        refused = await http.get(LIST)
        health = await http.get("/health")
        memory.let_go.set()
        answers = await asyncio.gather(*waiting)
        after = await http.get(LIST)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "busy"
    assert health.status_code == 200
    assert [answer.status_code for answer in (*answers, after)] == [200] * 4
    assert measured.count(("GET /recommendations", 200)) == 4
    assert measured.count(("GET /recommendations", 503)) == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),  # what a page of another site may send without asking
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data", 415),
        ("", 415),
    ],
)
async def test_only_types_that_no_page_of_another_site_may_send_are_read(kind: str, status: int) -> None:
    async with application() as (http, memory, _):
        answer = await http.put("/users/u", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == status
    assert len(memory.written) == (status == 200)


async def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 1024

    async with application(gateway_body_bytes=10_000) as (http, memory, _):
        json = {"Content-Type": "application/json"}
        told = await http.post("/events", content=b" " * 10_001, headers=json)
        streamed = await http.post("/events", content=body(), headers=json)
    assert [told.status_code, streamed.status_code] == [413, 413]
    assert told.headers["connection"] == "close"
    assert streamed.json()["error"]["code"] == "too_large"
    assert memory.written == []


@pytest.mark.parametrize(
    "options",
    [{"headers": {"X": "x" * 17_000}}, {"params": {"exclude": ["x" * 60] * 300}}],
    ids=["header", "query"],
)
async def test_a_head_that_is_too_large_is_refused(options: dict[str, Any]) -> None:
    async with application() as (http, memory, _):
        answer = await http.get("/recommendations", **options)
    assert answer.status_code == 431
    assert answer.json()["error"]["code"] == "head_too_large"
    assert memory.asked.locked()


async def test_a_slow_body_is_given_up() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with application(gateway_body_s=0.05) as (http, _, _):
        answer = await http.post("/events", content=body(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"


DEEP = 100_000


@pytest.mark.parametrize(
    "body", [b"[" * DEEP, b'{"a":' * DEEP, b'{"event_id":"e","x":' + b"[" * DEEP + b"]" * DEEP + b"}"]
)
@pytest.mark.parametrize("path", ["/events", "/recommendations", "/items/i"])
async def test_deep_json_is_refused(body: bytes, path: str) -> None:
    async with application() as (http, memory, _):
        method = "PUT" if path == "/items/i" else "POST"
        answer = await http.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413)
    assert memory.written == []


IDS = [
    "a/b",
    "a\n",
    "\n\nb",
    "/",
    "//",
    "..",
    "../..",
    "a?b#c",
    "ü",
    "日本",
    "%2F",
    "a b",
    "\u0000",
    "🦊" * 64,
    "x" * 64,
    ".",
]


@pytest.mark.parametrize("row_id", IDS)
async def test_any_id_is_one_segment_of_the_path(row_id: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in row_id.encode())
    async with application() as (http, memory, measured):
        request = http.build_request("DELETE", "/users/x")
        request.url = request.url.copy_with(raw_path=f"/users/{encoded}".encode())
        answer = await http.send(request)
    assert answer.status_code == 200, answer.text
    assert [(topic, record.key) for topic, record in memory.written] == [("users", row_id.encode())]
    assert measured == [("DELETE /users", 200)]


@pytest.mark.parametrize("path", ["/users/", "/users/%FF", "/items/" + "x" * 65, "/items/%C3%28"])
async def test_what_is_no_id_is_refused(path: str) -> None:
    async with application() as (http, memory, _):
        request = http.build_request("DELETE", "/users/x")
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = await http.send(request)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_field"
    assert memory.written == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnavailableError("Redis: away"), 503, "unavailable"),
        (TimeoutError("not read within 5 s"), 504, "no_reply"),
    ],
)
async def test_what_is_away_or_slow_is_told(error: Exception, status: int, code: str) -> None:
    async with application() as (http, memory, _):
        memory.away = error
        answer = await http.get("/users/u")
    assert answer.status_code == status
    assert answer.json()["error"] == {"code": code, "message": str(error)}
    assert ("retry-after" in answer.headers) == (status == 503)
    assert answer.headers["cache-control"] == "no-store"


async def test_an_error_in_headrace_is_500_without_its_details() -> None:
    async with application() as (http, memory, measured):
        memory.broken = True
        answer = await http.delete("/users/u")
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "internal", "message": "RuntimeError"}}
    assert measured == [("DELETE /users", 500)]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no_such_path"),
        ("GET", "/users", 404, "no_such_path"),
        ("GET", "/recommendations/", 404, "no_such_path"),
        ("PATCH", "/users/u", 405, "no_such_method"),
        ("DELETE", "/events", 405, "no_such_method"),
        ("GET", "/users/u", 404, "unknown"),
    ],
)
async def test_other_paths_and_methods(method: str, path: str, status: int, code: str) -> None:
    async with application() as (http, _, measured):
        answer = await http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert ("allow" in answer.headers) == (status == 405)
    assert len(measured) == 1


def test_metrics_have_few_routes_whatever_is_asked_for() -> None:
    def route(method: str, path: str) -> str:
        return route_of({"type": "http", "method": method, "path": path})

    assert route("GET", "/users/a/b") == "GET /users"
    assert {route("BREW", "/users/a"), route("GET", "/secret"), route("GET", ""), route("GET", "*")} == {
        "other"
    }


@pytest.mark.parametrize(
    ("host", "is_it"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("LOCALHOST", True)]
    + [("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example", False), ("", False)],  # noqa: S104
)
def test_what_is_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


def test_another_address_needs_a_token(tmp_path: Any) -> None:
    assert token_of(Settings()) == ""
    everywhere = Settings(gateway_host="0.0.0.0")  # noqa: S104
    with pytest.raises(ConfigError, match="is not loopback"):
        token_of(everywhere)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    by_file = everywhere.model_copy(update={"gateway_token_file": str(tmp_path / "token")})
    assert token_of(by_file) == TOKEN
    assert token_of(everywhere.model_copy(update={"gateway_token": TOKEN})) == TOKEN
    with pytest.raises(ConfigError, match="not both"):
        token_of(by_file.model_copy(update={"gateway_token": TOKEN}))
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        token_of(by_file)
    with pytest.raises(ConfigError, match="cannot be read"):
        token_of(by_file.model_copy(update={"gateway_token_file": str(tmp_path / "none")}))


@pytest.mark.parametrize(
    "token", ["short", "with spaces in the middle", "ümlaute-ümlaute-ümlaute", "tab\tin-the-token-here"]
)
def test_a_bad_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigError) as refused:
        token_of(Settings(gateway_token=token))
    assert token not in str(refused.value)
    assert token not in repr(Settings(gateway_token=token))


async def test_the_trace_of_a_caller_is_passed_on() -> None:
    ask = {"user_id": "u", "surface": "home"}
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with application() as (http, memory, _):
        for header in (parent, "x" * 500, ""):
            headers = {"traceparent": header} if header else {}
            await http.get("/recommendations", params=ask, headers=headers)
            await http.post("/rank", json=ask | {"candidates": ["a"]}, headers=headers)
            await http.post("/bulk", json=[ask], headers=headers)
    assert memory.parents == [parent] * 3 + [""] * 6
