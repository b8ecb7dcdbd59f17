"""`headrace dead-letters redrive` is killed again and again: in the end every event counts exactly once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fresh_topics import make_topics
from installation import dead_letters, read_all, until, worker

from headrace.console.verification.letters import read_letters
from headrace.console.verification.run import verify
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics import redrive as job
from headrace.streams.topics.dead_letters import is_letter, redriven_from
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.redrive import Plan
from headrace.streams.topics.redrives import MOST_TIMES, Rules, Wanted
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker
USERS, EACH = 12, 4

#: The real command. It dies at a write: while it is under way, or when it is acknowledged.
COMMAND = """
import asyncio, os, signal, sys
from headrace.console.main import main
from headrace.streams.topics import redrive
from headrace.streams.topics.sender import BatchSender

left, late = int(sys.argv.pop(1)), sys.argv.pop(1) == "late"
redrive.WRITE_S, redrive.SETTLED_S, redrive.GROUP_LETTERS = 60.0, 1.0, 8
plain = BatchSender.send_many

async def send_many(self, topic, records, *, partition):
    global left
    left -= 1
    writing = asyncio.ensure_future(plain(self, topic, records, partition=partition))
    if left == 0:
        for _ in range(20):
            await (writing if late else asyncio.sleep(0))
        os.kill(os.getpid(), signal.SIGKILL)
    return await writing

BatchSender.send_many = send_many
main()
"""


async def redrive(settings: Settings, kill_at: int, moment: str) -> tuple[int, str]:
    """Run the command as a process of its own; return its exit code and output."""
    environment = {
        **os.environ,
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
    }
    arguments = ("dead-letters", "redrive", "--reason", "wrong_partition", "--yes", "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, str(kill_at), moment, *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return int(process.returncode or 0), out.decode()


def events(user: int) -> list[Any]:
    return [
        {
            "event_id": f"{user}-{n}",
            "type": "click",
            "user_id": f"u{user}",
            "item_id": f"i{n}",
            "ts": now_ms(),
        }
        for n in range(EACH)
    ]


async def letters(settings: Settings) -> list[Any]:
    return [letter for letter in await dead_letters(settings) if letter.topic]


async def misplaced(settings: Settings, sender: BatchSender) -> None:
    """Write the events of all users to partitions that are not theirs, and one event where it belongs."""
    topic, count = Topics(settings).events, settings.partitions
    for user in range(USERS):
        key = b"u%d" % user
        partition = (right_partition(key, count) + 1) % count
        records = [(key, json.dumps(event).encode(), None, ()) for event in events(user)]
        await sender.send_many(topic, records, partition=partition)
    right = {**events(0)[0], "event_id": "right"}
    await sender.send_keyed(topic, [(b"u0", json.dumps(right).encode(), None, ())])


async def test_every_count_is_exactly_once(
    make_settings: Callable[..., Settings], sender: BatchSender
) -> None:
    # Nothing else would forgive a record that was written twice: retries are not recognised.
    settings = make_settings(wrong_partition="refuse", dedup_window_ms=0)
    topics = Topics(settings)
    await make_topics(settings)
    await misplaced(settings, sender)
    store = RedisStore(settings)
    async with worker(settings, ["ingest", "aggregate"]):
        refused = await until(lambda: letters(settings), lambda found: len(found) == USERS * EACH, 60)
        assert {letter.reason for letter in refused} == {"wrong_partition"}
        for kill_at, moment in (
            (1, "late"),
            (2, "early"),
            (3, "late"),
            (4, "early"),
            (5, "late"),
            (7, "late"),
        ):
            code, _ = await redrive(settings, kill_at, moment)
            assert code == -signal.SIGKILL
        code, out = await redrive(settings, 0, "never")
        assert code == 0, out
        assert 0 < json.loads(out)["written"] < USERS * EACH, "some was written before it was killed"
        code, out = await redrive(settings, 0, "never")
        assert (code, json.loads(out)["written"]) == (0, 0)
        assert json.loads(out)["left"] == {"redriven": USERS * EACH}
        copies = [r for r in await read_all(settings, topics.events) if redriven_from(r)]
        assert Counter(json.loads(r.value)["event_id"] for r in copies) == {
            f"{user}-{n}": 1 for user in range(USERS) for n in range(EACH)
        }
        assert all(r.partition == right_partition(r.key, settings.partitions) for r in copies)
        await until(lambda: lag(settings), lambda rows: rows and not any(r.records for r in rows), 60)
        keys = [hash64(f"u{user}") for user in range(USERS)]
        wanted = [EACH + 1] + [EACH] * (USERS - 1)

        async def clicks() -> list[int]:
            rows = await store.get("u", keys)
            return [int(unpack([row], user_state.ROW)[0]["n_clicks"][0]) if row else 0 for row in rows]

        assert await until(clicks, lambda found: found == wanted, 30) == wanted
        result = await until(lambda: verify(settings), lambda result: result.exit_code == 0, 60)
        assert (result.events, result.differences) == (2 * USERS * EACH + 1, 0), (
            "the refused ones are records, too"
        )
    every = (await read_letters(settings)).every
    assert every == {(letter.topic, letter.partition, letter.offset) for letter in refused}, "and no notes"
    await store.close()


async def test_what_is_refused_again_names_its_letter_and_is_left_out_in_the_end(
    topics_made: Settings, sender: BatchSender
) -> None:
    topics = Topics(topics_made)
    await sender.send_keyed(topics.events, [(b"u", b"{", None, [("trace", b"7")])])

    async def again() -> Plan:
        rules = Rules(topics_made, MOST_TIMES, now_ms())
        return await job.redrive(topics_made, Wanted(), rules, limit=10, write=True)

    async with worker(topics_made, ["ingest"]):
        for times in range(MOST_TIMES):
            found = await until(lambda: letters(topics_made), lambda found, n=times: len(found) == n + 1, 60)
            assert found[-1].redriven == times
            assert (await again()).written == 1
        found = await until(lambda: letters(topics_made), lambda found: len(found) == MOST_TIMES + 1, 60)
        assert [letter.redriven for letter in found] == [0, 1, 2, 3]
        assert {letter.headers for letter in found} == {(("trace", b"7"),)}
        records = [r for r in await read_all(topics_made, topics.dead_letters) if is_letter(r)]
        places = [f"{r.partition}-{r.offset}" for r in records]
        assert [letter.origin_letter for letter in found] == ["", *places[:-1]]
        plan = await again()
        assert (plan.written, plan.left) == (0, {"redriven": MOST_TIMES, "too_often": 1})
