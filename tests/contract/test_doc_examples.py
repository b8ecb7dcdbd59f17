"""The examples of the documentation run."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fresh_topics import admin_of, make_topic
from installation import read_all, worker
from pages import DEFAULTS, OPERATOR, PAGES, blocks
from project import ROOT

from headrace.models.state import users as user_state
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.dead_letters import dead_letter
from headrace.streams.topics.names import Topics

EXAMPLES = [(page, n) for page, text in PAGES.items() for n in range(len(blocks(text, "python")))]


def example(page: str, n: int) -> str:
    return blocks(PAGES[page], "python")[n]


@pytest.mark.parametrize(("page", "n"), EXAMPLES)
def test_python_examples_compile(page: str, n: int) -> None:
    compile(example(page, n), f"{page}, example {n + 1}", "exec")


def adapted(code: str, settings: Settings) -> str:
    """Return an example that talks to the test's broker and topics instead of the default ones."""
    assert DEFAULTS.brokers in code
    topics = [*(s.name for s in Topics(DEFAULTS).specs(DEFAULTS)), "rec-replies-shop"]
    code = code.replace('f"rec-replies-shop-{', f'f"{settings.topic_prefix}rec-replies-shop-{{')
    code = re.sub(rf'"({"|".join(topics)})"', rf'"{settings.topic_prefix}\1"', code)
    prefix = f'topic_prefix="{settings.topic_prefix}", ' if settings.topic_prefix else ""
    return code.replace("Settings(", f"Settings({prefix}").replace(DEFAULTS.brokers, settings.brokers)


async def run(code: str) -> str:
    """Run an example as a program of its own; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode()


@pytest.mark.broker
async def test_the_examples_for_producers_and_callers_run(settings: Settings) -> None:
    topics = Topics(settings)
    await create_topics(settings)
    await make_topic(settings, settings.name("rec-replies-shop"), 1)
    await run(adapted(example("docs/producer.md", 0), settings))
    async with worker(settings, ["ingest", "aggregate", "serve"]):
        reply = msgspec.json.decode(await run(adapted(example("docs/caller.md", 0), settings)))
        assert reply.get("error") is None
        assert "request_id" in reply
        for n in (1, 2):  # the client, and the one without an event loop
            printed = await run(adapted(example("docs/caller.md", n), settings))
            assert printed.startswith("["), printed
        first, *rest = blocks(PAGES["README.md"], "python")
        assert rest == []
        assert "request_id" in msgspec.json.decode(await run(adapted(first, settings)))
        (shown_row,) = (block for block in blocks(OPERATOR, "python") if "item_state" in block)
        local = shown_row.replace(DEFAULTS.redis_url, settings.redis_url)
        printed = await run(local.replace('f"i:', f'f"{settings.topic_prefix}i:'))
        assert re.search(r"'click': [1-9]", printed), printed
    assert await read_all(settings, topics.dead_letters) == []
    states = [r.value for r in await read_all(settings, topics.user_state) if r.value]
    assert max(unpack(states, user_state.ROW)[0]["n_clicks"]) >= 1, "the event did not count"


FAUST_MAIN = """
async def main():
    try:
        print((await home("user-42", "home-1"))["request_id"], flush=True)
    finally:
        os._exit(0)  # stopping a Faust client is not what is tested

import os
asyncio.run(main())
"""


@pytest.mark.broker
async def test_the_example_for_faust_leaves_one_topic_behind_however_often_it_starts(
    topics_made: Settings, tmp_path: Path
) -> None:
    code = adapted(example("docs/caller.md", 3), topics_made)
    code = code.replace('"shop",', f'"{topics_made.topic_prefix}shop", datadir="{tmp_path}",') + FAUST_MAIN
    before = await topics_of(topics_made)
    async with worker(topics_made, ["serve"]):
        for _ in range(2):
            assert await run(code) == "home-1\n"
            new = await topics_of(topics_made) - before
            assert new == {topics_made.name(f"rec-replies-shop-{socket.gethostname()}")}


async def topics_of(settings: Settings) -> set[str]:
    async with admin_of(settings.brokers) as admin:
        return {topic for topic in await admin.list_topics() if topic.startswith(settings.topic_prefix)}


@pytest.mark.broker
async def test_the_example_for_dead_letters_runs(topics_made: Settings, sender: Any) -> None:
    topics = Topics(topics_made)

    class Refused:
        key, value, offset, timestamp, headers = b"user-1", b"{}", 3, 0, (("a", b"b"),)

    # A broker deletes what is older than the topic keeps.
    Refused.timestamp = sent = time.time_ns() // 1_000_000 - HOUR_MS
    letters = [
        dead_letter(Refused, topics.events, 0, agent="a", reason=reason, field="ts")
        for reason in ("too_late", "too_late", "too_large")
    ]
    await sender.send_keyed(topics.dead_letters, letters)
    (found,) = (block for block in blocks(OPERATOR, "python") if "read_dead_letter" in block)
    code = adapted(found, topics_made)
    code, count = re.subn(r"= set\(\) .*", '= {"too_large"}', code)
    assert count == 1
    printed = await run(code)
    assert [line.split() for line in printed.splitlines()] == [
        ["2", topics.events, "too_late", "ts"],
        ["1", topics.events, "too_large", "ts"],
    ]
    resent = await read_all(topics_made, topics.events)
    assert [(r.key, r.value, r.timestamp) for r in resent] == [(b"user-1", b"{}", sent)]
    assert list(resent[0].headers) == [("a", b"b")]
