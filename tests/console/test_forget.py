"""``headrace forget`` over real topics: nothing is left; what is left, in each of the places, is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_topics import make_topics
from installation import ITEMS, now_ms, producer, publish, until, worker
from logged_examples import example, write
from oracle_examples import event, impression

from headrace.console.forget import told
from headrace.console.forgotten.job import forget, look
from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import folder_of
from headrace.serving.requests.client import RecClient
from headrace.serving.store.protocol import Kind
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import RecRequest, UserProfile
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.dead_letters import NOTE
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

ROLES = ["ingest", "learn", "log"]
KINDS: tuple[Kind, ...] = ("u", "s")
EVERYWHERE = {"user-state", "shown-state", "Redis u:", "Redis s:", "training log", "users"}


@pytest.fixture
async def used(settings: Settings, tmp_path: Path) -> Settings:
    """Return an installation in which two users have a profile, and were shown lists and clicked."""
    changes = {
        "partitions": 2,
        "data_dir": tmp_path,
        "durable_every_ms": 100,
        "outcome_wait_ms": 300,
        "log_flush_s": 0.1,
    }
    s = settings.model_copy(update=changes)
    topics, began = Topics(s), now_ms() - 60_000
    await make_topics(s)
    async with producer(s) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        for user in ("gone", "stays"):
            await publish(sender, topics.users, [(user, UserProfile(user, "NL", 30))])
            lists = [
                impression(f"r-{user}-{n}", ["item-1", "item-2"], began + n, user=user) for n in range(5)
            ]
            await publish(sender, topics.impressions, [(user, one) for one in lists])
            clicks = [
                event("click", "item-1", began + 9 + n, request=f"r-{user}-{n}", user=user) for n in range(5)
            ]
            await publish(sender, topics.events, [(user, one) for one in clicks])
    async with worker(s, ROLES):
        for user in ("gone", "stays"):
            await until(lambda name=user: look(s, name), lambda left: places(left) == EVERYWHERE)
    return s


def places(left: Any) -> set[str]:
    return {name for name, n in left.still_there.items() if n}


async def test_a_user_is_forgotten_everywhere(used: Settings) -> None:
    before = example_log.read(folder_of(used)).num_rows
    assert await forget(used, "gone") == 10, "rows of the training log"
    # The tombstone is there, but nobody has read it.
    assert places(await look(used, "gone")) == EVERYWHERE - {"users", "training log"}
    async with worker(used, ROLES):
        left = await until(lambda: look(used, "gone"), lambda left: left.forgotten)
    assert set(left.still_there) == EVERYWHERE
    topics = Topics(used)
    assert {name: one["records"] for name, one in left.until.items()} == {
        topics.events: 5, topics.impressions: 5, topics.examples: 10,
    }  # fmt: skip
    assert min(one["gone_ts"] for one in left.until.values()) > now_ms()
    assert told(left)[-1] == "user gone is forgotten"
    assert places(await look(used, "stays")) == EVERYWHERE, "nobody else is forgotten"
    assert example_log.read(folder_of(used)).num_rows == before - 10
    assert await forget(used, "gone") == 0


async def test_what_is_left_is_found_in_each_place(used: Settings) -> None:
    topics, key, store = Topics(used), hash64("gone"), RedisStore(used)
    rows = {kind: (await store.get(kind, [key]))[0] for kind in KINDS}
    await forget(used, "gone")
    async with worker(used, ROLES):
        await until(lambda: look(used, "gone"), lambda left: left.forgotten)
    for kind in KINDS:
        row = rows[kind]
        assert row is not None
        await store.put(kind, PackedRows(np.array([key], np.uint64), row, np.array([0, len(row)])))
        assert places(await look(used, "gone")) == {f"Redis {kind}:"}
        await store.drop(kind, np.array([key], np.uint64))
    await store.close()

    path = write(Path(str(folder_of(used))), [example(0, np.random.default_rng(0), user="gone")], first=10**6)
    assert places(await look(used, "gone")) == {"training log"}
    path.unlink()
    assert (await look(used, "gone")).forgotten

    async with producer(used) as sender:
        await publish(sender, topics.users, [("gone", UserProfile("gone", "NL", 30))])
        assert places(await look(used, "gone")) == {"users"}
        await publish(
            sender, topics.impressions, [("gone", impression("r", ["item-1"], now_ms(), user="gone"))]
        )
        async with worker(used, ROLES):
            left = await until(
                lambda: look(used, "gone"), lambda left: {"user-state", "shown-state"} <= places(left)
            )
    assert told(left)[-1] == "user gone is NOT forgotten"


async def test_traces_of_a_user_are_counted(settings: Settings, tmp_path: Path) -> None:
    """They go with the retention of their topic."""
    s = settings.model_copy(update={"partitions": 2, "data_dir": tmp_path, "trace_share": 1.0})
    await make_topics(s)
    async with producer(s) as sender, worker(s, ["ingest", "serve"]), RecClient(s, "forget") as client:
        await publish(sender, Topics(s).items, [(i.item_id, i) for i in ITEMS])
        for n, user in enumerate(("gone", "gone", "stays")):
            await client.recommend(RecRequest(f"r{n}", user, "home", deadline_ms=9000), 20.0)
        left = await until(lambda: look(s, "gone"), lambda left: Topics(s).traces in left.until)
    assert (await look(s, "gone")).until[Topics(s).traces]["records"] == 2
    assert left.until[Topics(s).traces]["gone_ts"] < now_ms() + 25 * HOUR_MS


async def test_dead_letters_of_a_user_are_counted_by_key_and_by_what_they_have(settings: Settings) -> None:
    """They go with the retention of their topic: a record that was refused has the user's id, too."""
    s = settings.model_copy(update={"partitions": 2})
    await make_topics(s)
    refused = [(b"gone", b"{not json"), (b"other", b'{"user_id": "gone", "type": "?"}'), (b"stays", b"{bad")]
    letters = [
        (key, value, None, [("reason", b"not_json"), ("agent", b"track_users")]) for key, value in refused
    ]
    note = [(b"gone", b"1", None, [(NOTE, b"1")])]
    async with producer(s) as sender:
        await sender.send_keyed(Topics(s).dead_letters, letters + note)
    left = await look(s, "gone")
    assert left.until[Topics(s).dead_letters]["records"] == 2
    assert left.until[Topics(s).dead_letters]["gone_ts"] > now_ms() + 29 * 24 * HOUR_MS
    assert left.forgotten, "a log cannot lose single records"
