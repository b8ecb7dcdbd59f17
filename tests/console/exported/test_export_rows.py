"""`headrace export users` and `items`: the rows that the workers keep, with ids, windows as of now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from installation import producer, publish, until, worker
from past_events import as_files, imported, lasting_topics, past_events

from headrace.console.exported import rows as job
from headrace.console.verification.run import verify
from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


async def test_the_exported_rows_are_those_of_the_events(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(partitions=3, data_dir=tmp_path / "data", durable_every_ms=100)
    topics, now = Topics(settings), now_ms()
    await lasting_topics(settings)
    events = past_events(2000, now, days=10)
    as_files(events, tmp_path / "past")
    async with worker(settings, ["ingest", "aggregate"]):
        async with producer(settings) as sender:
            await publish(sender, topics.items, [(f"item-{i}", Item(f"item-{i}", now)) for i in range(20)])
            await publish(sender, topics.users, [('us"er-1', UserProfile('us"er-1', "NL", 33))])
            await sender.send_keyed(topics.users, [(b'us"er-2', None, None, ())])
        await imported(settings, [tmp_path / "past"])
        async with producer(settings) as sender:
            await sender.send_keyed(topics.users, [(b'us"er-2', None, None, ())])
        await until(lambda: lag(settings), lambda found: found and not any(r.records for r in found), 60)
        await until(lambda: verify(settings), lambda result: result.exit_code == 0, 60)
    ids = [f'us"er-{i}' for i in range(0, 30, 3)]
    users = await job.export(settings, job.USERS, tmp_path / "out", ids, now, lambda done, text: None)
    items = await job.export(settings, job.ITEMS, tmp_path / "out", [], now, lambda done, text: None)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [f"{kind}-{n:05d}.parquet" for kind in ("items", "users") for n in range(3)]
    assert (users, items) == ((29, 3), (25, 3)), "the forgotten user has no row"

    clicks = events.filter(pc.equal(events["type"], "click")).to_pylist()
    rows = {
        row["key"]: row
        for row in ds.dataset(sorted((tmp_path / "out").glob("users-*"))).to_table().to_pylist()
    }
    assert {row["user_id"] for row in rows.values()} == {None, 'us"er-1', *ids}
    for i in (0, 1, 3, 4):
        row, name = rows[hash64(f'us"er-{i}')], f'us"er-{i}'
        mine = sorted((e["ts"], e["item_id"]) for e in clicks if e["user_id"] == name)
        assert row["total.click"] == row["n_clicks"] == len(mine)
        newest = mine[::-1][: len(row["recent"])]
        assert row["recent_ts"] == [ts for ts, _ in newest]
        assert sorted(row["recent"]) == sorted(hash64(item) for _, item in newest)
    assert rows[hash64('us"er-1')]["age"] == 33

    rows = {
        row["key"]: row
        for row in ds.dataset(sorted((tmp_path / "out").glob("items-*"))).to_table().to_pylist()
    }
    assert {row["item_id"] for row in rows.values()} == {None, *(f"item-{i}" for i in range(20))}
    day = now // DAY_MS - 6
    for i in range(25):
        row = rows[hash64(f"item-{i}")]
        mine = [e for e in clicks if e["item_id"] == f"item-{i}"]
        assert row["total.click"] == len(mine)
        assert row["w.7d.click"] == sum(e["ts"] // DAY_MS >= day for e in mine)
        assert row["last_click"] == max(e["ts"] for e in mine)

    told = pq.read_schema(tmp_path / "out" / "users-00000.parquet").metadata
    assert (told[b"headrace.export"], told[b"headrace.layout"], told[b"read_at_ms"]) == (
        b"users",
        b"1",
        str(now).encode(),
    )
    with pytest.raises(ConfigError, match="earlier export"):
        await job.export(settings, job.USERS, tmp_path / "out", [], now, lambda done, text: None)
