"""The examples with curl in docs/gateway.md run, in their order, and give what the page says."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import pytest
from fresh_topics import make_topics
from gateways import gateway, url_of, with_gateway
from installation import until
from pages import PAGES, blocks

from headrace.streams.settings import Settings

PAGE = PAGES["docs/gateway.md"]
CURL = shutil.which("curl")


async def run(script: str) -> list[dict[str, Any]]:
    """Run a block in a shell; return what its commands printed, one JSON value each."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (script, out.decode(), err.decode())
    found, text, decoder = [], out.decode(), json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


@pytest.mark.broker
@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_the_examples_run(settings: Settings) -> None:
    here = with_gateway(settings)
    await make_topics(here)
    scripts = blocks(PAGE, "bash")
    assert len(scripts) == 7
    async with gateway(here, ["ingest", "serve"]) as http:
        local = [
            script.replace("http://127.0.0.1:8080", url_of(here)).replace("curl -sS", "curl -sSf")
            for script in scripts
        ]
        (query,), (body,), (ranked,) = await run(local[0]), await run(local[1]), await run(local[2])
        (in_bulk,) = await run(local[3])
        one, two = await run(local[4])
        rows = await run(local[5])

        async def clicked() -> int:
            answer = await http.get("/users/user-42?names=false")
            return len(answer.json().get("recent_clicks", ()))

        await until(clicked, lambda count: count == 1)
        user, plain, item = await run(local[6])
    assert query["request_id"].startswith("http-")
    assert body["request_id"] == "home-0001"
    assert {item["item_id"] for item in ranked["items"]} == {"story-1", "story-2", "not-in-the-catalogue"}
    assert [reply.get("error") for reply in in_bulk["replies"]] == [None, None]
    assert one["taken"] == 1
    (documented,) = blocks(PAGE, "json")
    assert [set(e) for e in two["events"]] == [set(e) for e in json.loads(documented)["events"]]
    assert two["events"][1] == json.loads(documented)["events"][1]
    assert all(set(row) == {"partition", "offset", "state"} for row in rows)
    assert user["recent_clicks"][0]["item"] == {"id": "story-1", "title": "How to bake bread"}
    assert plain["recent_clicks"][0]["item"].keys() == {"hash"}
    assert item["item"]["title"] == "How to bake bread"
