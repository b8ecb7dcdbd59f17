"""`headrace verify` compares the catalogue snapshot with `items`, and finds what is wrong in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from mapped_catalogs import opened, write_snapshot
from worlds import item

from headrace.agents.stage.catalog_build import build
from headrace.console.verification.run import verify
from headrace.oracle.compare.catalogue import SNAPSHOT
from headrace.serving.snapshot.files import MANIFEST
from headrace.serving.snapshot.folder import folder_of
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, partitions=2)


async def test_a_wrong_snapshot_is_found(settings: Settings, sender: BatchSender) -> None:
    await create_topics(settings)
    topic = Topics(settings).items
    some = [item(n) for n in range(20)]
    await sender.send_keyed(topic, [(i.item_id.encode(), msgspec.json.encode(i), None, []) for i in some])
    await sender.send_keyed(topic, [(b"i3", None, None, []), (b"i4", b"{", None, [])])
    assert (await verify(settings, redis=False)).compared.get(SNAPSHOT) is None
    await build(settings)
    await sender.send_keyed(topic, [(b"i5", None, None, [])])  # it is not in the snapshot yet
    result = await verify(settings, redis=False)
    assert (result.first, result.differences) == ([], 0)
    assert result.compared[SNAPSHOT] == 19

    old = opened(folder_of(settings))
    ends = {number: place.next for number, place in old.places.items()}
    changed = item(7, published_ts=some[7].published_ts + 1)
    write_snapshot(folder_of(settings), ["i8", item(3), changed], ends, old=old, written_ms=now_ms())
    old.close()
    result = await verify(settings, redis=False)
    assert sorted((d["row"], d["expected"], d["found"]) for d in result.first) == [
        ("item i3 of the catalogue snapshot", None, some[3].published_ts),
        ("item i7 of the catalogue snapshot", some[7].published_ts, changed.published_ts),
        ("item i8 of the catalogue snapshot", some[8].published_ts, None),
    ]


async def test_a_snapshot_that_nobody_uses_is_a_note(settings: Settings, sender: BatchSender) -> None:
    await create_topics(settings)
    one = item(1)
    await sender.send_keyed(Topics(settings).items, [(b"i1", msgspec.json.encode(one), None, [])])
    await build(settings)
    path = opened(folder_of(settings)).folder / "boost"
    path.write_bytes(b"xxxx")
    result = await verify(settings, redis=False)
    assert SNAPSHOT not in result.compared
    assert any("the catalogue snapshot is not compared" in n and "checksum" in n for n in result.notes)


async def test_a_snapshot_with_other_towers_than_it_says_is_a_note(
    settings: Settings, sender: BatchSender
) -> None:
    await create_topics(settings)
    await sender.send_keyed(Topics(settings).items, [(b"i1", msgspec.json.encode(item(1)), None, [])])
    await build(settings)
    path = opened(folder_of(settings)).folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"towers": "0" * 12}))
    result = await verify(settings, redis=False)
    assert SNAPSHOT not in result.compared
    assert any("not compared" in n and "the manifest says 000000000000" in n for n in result.notes)
