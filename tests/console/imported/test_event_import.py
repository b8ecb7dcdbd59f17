"""`headrace import events`: what was imported is counted as if it had come live, once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from installation import dead_letters, producer, publish, read_all, until, worker
from object_store import object_store
from past_events import as_files, imported, lasting_topics, past_events

from headrace.console.verification.run import verify
from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import Context, Event, Item
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

CATALOG = [
    Item(f"item-{i}", now_ms() - 50 * DAY_MS, category=f"c{i % 4}", creator_id=f"w{i % 3}") for i in range(25)
]


async def caught_up(settings: Settings) -> Any:
    await until(lambda: lag(settings), lambda rows: rows and not any(r.records for r in rows), 60)
    return await until(lambda: verify(settings), lambda result: result.exit_code == 0, 60)


async def live_clicks(settings: Settings, start: int) -> None:
    clicks = [
        Event(
            f"live-{start}-{i}", "click", f'us"er-{i % 7}', f"item-{i % 9}", now_ms(), context=Context("DE")
        )
        for i in range(40)
    ]
    async with producer(settings) as sender:
        await publish(sender, Topics(settings).events, [(e.user_id, e) for e in clicks])


async def test_the_past_counts_once_beside_live_events_and_verify_agrees(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    changes = {"durable_every_ms": 100, "outcome_wait_ms": 1000}  # then `learn` has read all, too
    settings = make_settings(partitions=3, data_dir=tmp_path / "data", **changes)
    await lasting_topics(settings)
    table = past_events(3000, now_ms())
    paths = as_files(table, tmp_path / "past")
    async with worker(settings, ["ingest", "aggregate", "learn"]):
        async with producer(settings) as sender:
            await publish(sender, Topics(settings).items, [(i.item_id, i) for i in CATALOG])
        await live_clicks(settings, 0)
        done = await imported(settings, [tmp_path / "past"])
        assert (done.sent, done.events, done.before) == (3000, 3000, 0)
        result = await caught_up(settings)
        assert (result.events, result.differences) == (3040, 0)
        again = await imported(settings, paths)
        assert (again.sent, again.before, again.events) == (0, 3, 0)
        await live_clicks(settings, 1)
        result = await caught_up(settings)
        assert (result.events, result.differences) == (3080, 0)
        assert result.compared["neighbour rows"] > 10
    assert await dead_letters(settings) == []


async def test_a_new_file_in_a_folder_is_imported_alone(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(partitions=2, data_dir=tmp_path / "data")
    await lasting_topics(settings)
    as_files(past_events(100, now_ms()), tmp_path / "past")
    assert (await imported(settings, [tmp_path / "past"])).sent == 100
    as_files(past_events(50, now_ms(), seed=2), tmp_path / "past" / "more", 1)
    done = await imported(settings, [tmp_path / "past"])
    assert (done.sent, done.before, done.files) == (50, 3, 4)
    with pytest.raises(ConfigError, match="imported before, with other options"):
        await imported(settings, [tmp_path / "past"], until_ms=now_ms())
    assert (await imported(settings, [tmp_path / "past"], again=True)).sent == 150


async def test_an_import_of_which_nothing_is_known_is_found_in_the_topic(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(partitions=2, data_dir=tmp_path / "data")
    await lasting_topics(settings)
    await live_clicks(settings, 0)
    paths = as_files(past_events(300, now_ms()), tmp_path / "past")
    assert (await imported(settings, paths)).sent == 300
    elsewhere = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    done = await imported(elsewhere, paths)
    assert (done.events, done.sent) == (300, 0)
    nowhere = settings.model_copy(update={"data_dir": tmp_path / "nowhere"})
    with pytest.raises(ConfigError, match="of which nothing is known"):
        await imported(nowhere, paths[:2])
    assert (await imported(nowhere, paths[:2], again=True)).sent == 200


async def test_a_topic_that_would_delete_the_events_is_refused_before_anything_is_sent(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(partitions=2, data_dir=tmp_path / "data")
    await lasting_topics(settings, days=7)
    as_files(past_events(100, now_ms()), tmp_path / "past")
    with pytest.raises(ConfigError, match=r"retention\.ms=604800000.*kafka-configs.*retention\.ms="):
        await imported(settings, [tmp_path / "past"])
    newer = await imported(settings, [tmp_path / "past"], since_ms=now_ms() - 5 * DAY_MS)
    assert 0 < newer.sent < 50


async def test_the_events_of_json_lines_are_those_of_parquet(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    table = past_events(400, now_ms())
    lines = []
    for row in table.to_pylist():
        context = {name: row.pop(name) for name in ("country", "age") if row[name] is not None}
        told = {name: value for name, value in row.items() if value is not None} | {"context": context}
        lines.append(msgspec.json.encode(told))
    (tmp_path / "past.jsonl").write_bytes(b"\n".join(lines))
    as_files(table, tmp_path / "past", 1)
    bodies = []
    for source in ("past.jsonl", "past"):
        settings = make_settings(partitions=2, data_dir=tmp_path / f"data-{source}")
        await lasting_topics(settings)
        assert (await imported(settings, [tmp_path / source])).sent == 400
        records = await read_all(settings, Topics(settings).events)
        assert all(record.timestamp == msgspec.json.decode(record.value)["ts"] for record in records)
        bodies.append(sorted((r.partition, r.offset, r.key, r.value) for r in records))
    assert bodies[0] == bodies[1]


async def test_a_store_has_the_files_and_what_is_known_of_the_import(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with object_store() as store:
        for path in as_files(past_events(300, now_ms()), tmp_path / "past"):
            store.client.upload_file(str(path), "lake", f"past/{path.name}")
        url = store.url.replace("lake/some/where", "lake/past")
        settings = make_settings(partitions=2, data_dir=tmp_path / "data", data_url=store.url)
        await lasting_topics(settings)
        assert (await imported(settings, [url])).sent == 300
        other = settings.model_copy(update={"data_dir": tmp_path / "another machine"})
        done = await imported(other, [url])
        assert (done.sent, done.before) == (0, 3)
