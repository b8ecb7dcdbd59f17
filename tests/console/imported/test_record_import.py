"""`headrace import items` and `users`: what is there already is newer than a file of the past."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from installation import dead_letters, producer, publish, read_all, until, worker
from object_store import object_store

from headrace.console.imported.bad_rows import BadRows
from headrace.console.imported.mapping import FieldMap, mapping_of
from headrace.console.imported.record_job import (
    ITEMS,
    LISTS,
    NUMBERS,
    TIMES,
    USERS,
    Kind,
    RecordImport,
    Written,
)
from headrace.console.imported.sources import find, input_file
from headrace.console.verification.run import verify
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker
T0 = 1_780_000_000_000


async def imported(
    settings: Settings,
    kind: Kind,
    path: Any,
    mapping: FieldMap | None = None,
    bad: Path | None = None,
    **more: Any,
) -> Written:
    files = [input_file(at) for at in find([str(path)])]
    with BadRows(bad) as rows:
        return await RecordImport(settings, files, kind, mapping or FieldMap(), rows, **more).run()


async def newest(settings: Settings, topic: str, kind: type[Any]) -> dict[str, Any]:
    records = await read_all(settings, topic)
    told = {r.key.decode(): r.value for r in sorted(records, key=lambda r: (r.partition, r.offset))}
    return {key: value and msgspec.json.decode(value, type=kind) for key, value in told.items()}


def test_every_field_has_a_kind() -> None:
    every = {*ITEMS.fields, *USERS.fields}
    texts = {"item_id", "user_id", "title", "category", "creator_id", "language", "country"}
    assert every == LISTS | TIMES | NUMBERS | texts


async def test_items_of_a_csv_file_become_those_of_the_catalogue(
    topics_made: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(
        "id,made,title,tags,vector,boost,countries\n"
        f'7,{T0 // 1000},"Bread, ""fresh""",food|how-to,"[1, 2.5]",1.5,\n'
        f'8,{T0 // 1000},,,,,"[""DE"",""AT""]"\n'
    )
    mapping = mapping_of(["id=item_id", "made=published_ts"], ["language=de"], "s", ITEMS.fields)
    done = await imported(topics_made, ITEMS, tmp_path / "a.csv", mapping)
    assert done == Written(rows=2, sent=2)
    assert await newest(topics_made, Topics(topics_made).items, Item) == {
        "7": Item(
            "7", T0, 'Bread, "fresh"', tags=["food", "how-to"], language="de", boost=1.5, vector=[1, 2.5]
        ),
        "8": Item("8", T0, language="de", countries=["DE", "AT"]),
    }


async def test_profiles_from_a_store_leave_newer_and_forgotten_users_alone(topics_made: Settings) -> None:
    topic = Topics(topics_made).users
    async with worker(topics_made, ["ingest"]):
        async with producer(topics_made) as sender:
            await publish(sender, topic, [("u1", UserProfile("u1", "NL"))])
            await sender.send_keyed(topic, [(b"u2", None, None, ())])
        with object_store() as store:
            table = pa.table(
                {
                    "user_id": [f"u{i}" for i in range(4)] + ["u3"],
                    "country": ["DE"] * 5,
                    "age": pa.array([30, None, 40, 50, 60]),
                    "followed_creators": [["a"], None, [], ["b", "c"], None],
                }
            )
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            store.client.put_object(
                Bucket="lake", Key="some/where/deep/u.parquet", Body=sink.getvalue().to_pybytes()
            )
            done = await imported(topics_made, USERS, store.url)
            assert done == Written(rows=5, sent=2, there=3)
            assert await imported(topics_made, USERS, store.url) == Written(rows=5, sent=0, there=5)
            found = await newest(topics_made, topic, UserProfile)
            assert found == {
                "u0": UserProfile("u0", "DE", 30, followed_creators=["a"]),
                "u1": UserProfile("u1", "NL"),
                "u2": None,
                "u3": UserProfile("u3", "DE", 50, followed_creators=["b", "c"]),
            }
            assert (await imported(topics_made, USERS, store.url, replace=True)).sent == 5
        found = await newest(topics_made, topic, UserProfile)
        assert (found["u2"], found["u3"].age) == (UserProfile("u2", "DE", 40), 60)
        await until(lambda: lag(topics_made), lambda rows: rows and not any(r.records for r in rows), 60)
        result = await until(lambda: verify(topics_made), lambda result: result.exit_code == 0, 60)
        assert result.compared["profiles"] == 4
    assert await dead_letters(topics_made) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"published_ts": T0}, "item_id: it is missing"),
        ({"item_id": "a"}, "published_ts: it is missing"),
        ({"item_id": "a", "published_ts": T0 // 1000}, "published_ts: .*--time-unit s"),
        ({"item_id": "a", "published_ts": T0, "boost": -1}, "boost: Expected `float` >= 0"),
        ({"item_id": "a", "published_ts": T0, "tags": ["x" * 200]}, "tags: Expected `str` of length <= 128"),
        ({"item_id": "a", "published_ts": T0, "vector": [0.123456789] * 4096 + [1]}, "vector: "),
    ],
)
async def test_nothing_is_written_when_a_row_is_bad(
    topics_made: Settings, tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"item_id": "good", "published_ts": T0}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=f"row 2: {said}"):
        await imported(topics_made, ITEMS, path)
    assert await newest(topics_made, Topics(topics_made).items, Item) == {}
    done = await imported(topics_made, ITEMS, path, bad=tmp_path / "bad")
    assert (done.sent, done.skipped) == (1, 1)
    assert json.loads((tmp_path / "bad").read_text())["row"] == 2
