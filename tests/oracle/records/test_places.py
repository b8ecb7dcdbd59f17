"""Which records count where they are: wrong partition, no key, sent on, dated in the future."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0

from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.topics import SENT_ON, compare_sent_on
from headrace.oracle.features.judge import judge
from headrace.oracle.records.frames import CLEARED, CLEARS, FORWARDED, raw_records
from headrace.oracle.records.places import Places
from headrace.oracle.records.readers import read_events
from headrace.streams.settings import HOUR_MS, MINUTE_MS

OF = 4


def home(user: str) -> int:
    return int(DefaultPartitioner()(user.encode(), list(range(OF)), list(range(OF))))


def event(offset: int, user: str, *, key: bytes | None = b"", origin: str = "", ts: int = T0) -> Any:
    body = {"event_id": f"e{offset}", "type": "click", "user_id": user, "item_id": "i", "ts": ts}
    headers = ((FORWARDED, origin.encode()),) if origin else ()
    key = user.encode() if key == b"" else key
    return SimpleNamespace(
        offset=offset, key=key, value=json.dumps(body).encode(), timestamp=ts, headers=headers
    )


def verdicts(places: Places, partition: int, records: list[Any]) -> list[str]:
    raw = places.judge(raw_records("events", partition, records))
    read = read_events(raw, max_bytes=1000, lateness_ms=HOUR_MS, future_ms=MINUTE_MS)
    return [str(v) for v in read["verdict"]]


def places(**options: Any) -> Places:
    return Places({"events": OF}, {"events": "user_id"}, 1000, **options)


@given(st.text(min_size=1, max_size=20))
def test_a_record_belongs_where_kafkas_partitioner_puts_its_key(user: str) -> None:
    found = [verdicts(places(), p, [event(0, user)])[0] for p in range(OF)]
    assert found == ["" if p == home(user) else "moved" for p in range(OF)]


def test_a_record_without_a_key_is_sent_on_by_its_body() -> None:
    nobody = event(1, "u", key=None)
    nobody.value = b'{"user_id": 7}'
    records = [event(0, "u", key=None), nobody, event(2, "x" * 65, key=None)]
    assert verdicts(places(), 0, records) == ["moved", "invalid_field", "invalid_field"]
    assert verdicts(places(refuse=True), 0, records[:1]) == ["wrong_partition"]


def test_a_copy_counts_once_in_the_order_of_its_origin() -> None:
    """Two source partitions; a worker that started again has sent 3 and 5 a second time, then 6."""
    at = home("u")
    told = ["a/1/3", "a/1/5", "a/2/4", "a/1/3", "a/1/5", "a/1/6", "b/1/1", "nonsense", ""]
    records = [event(i, "u", origin=origin) for i, origin in enumerate(told)]
    judged = places()
    again = "forwarded_again"
    assert verdicts(judged, at, records[:4]) == ["", "", "", again]
    assert verdicts(judged, at, records[4:]) == [again, "", "", "", ""]
    assert judged.copied == {("a", 1, 3), ("a", 1, 5), ("a", 2, 4), ("a", 1, 6), ("b", 1, 1)}


def test_a_record_that_does_not_count_moves_no_stream_time() -> None:
    at, late = home("u"), T0 + HOUR_MS
    elsewhere = next(u for u in "abcdefgh" if home(u) != at)
    for other, options in (
        (event(1, elsewhere, ts=late), {}),
        (event(1, "u", ts=late), {"future": {("events", at, 1)}}),
    ):
        raw = places(**options).judge(raw_records("events", at, [event(0, "u"), other, event(2, "u")]))
        read = read_events(raw, max_bytes=1000, lateness_ms=2 * HOUR_MS, future_ms=MINUTE_MS)
        assert judge(read, MINUTE_MS)["stream"].to_list() == [T0, T0, T0]
        assert read["verdict"][1] in ("moved", "from_the_future")


@pytest.mark.parametrize(
    ("copied", "letters", "lost"), [(True, False, 0), (False, True, 0), (False, False, 1)]
)
def test_a_record_that_was_not_sent_on_is_found(copied: bool, letters: bool, lost: int) -> None:
    at = (home("u") + 1) % OF
    raw = places().judge(raw_records("events", at, [event(8, "u")]))
    read = read_events(raw, max_bytes=1000, lateness_ms=HOUR_MS, future_ms=MINUTE_MS)
    findings, origin = Findings(), {("events", at, 8)}
    compare_sent_on(findings, "events", read, origin if copied else (), origin if letters else ())
    assert (findings.differences, findings.by_kind[SENT_ON]) == (lost, 1)
    assert [d.row for d in findings.first] == [f"record events/{at}/8"] * lost


def test_what_was_read_before_the_partitions_were_made_more_is_judged_by_their_number_then() -> None:
    user = next(f"u{n}" for n in range(99) if home(f"u{n}") == 3 and _among(f"u{n}", 8) == 7)
    stays = next(f"u{n}" for n in range(99) if _among(f"u{n}", 8) == 3)
    grown = Places({"events": 8}, {"events": "user_id"}, 1000, earlier={"events": [(OF, [0, 0, 0, 2])]})
    records = [event(0, user), event(1, user), event(2, user), event(3, stays)]
    assert verdicts(grown, 3, records) == ["", "", "moved", ""]
    assert verdicts(grown, 7, [event(0, user), event(1, stays)]) == ["", "moved"]


def _among(user: str, partitions: int) -> int:
    every = list(range(partitions))
    return int(DefaultPartitioner()(user.encode(), every, every))


def test_a_null_that_only_hides_an_older_record_is_sent_on_by_nobody() -> None:
    records = [event(n, "u") for n in range(3)]
    for record in records[:2]:
        record.value = None
    for record in records[1:]:
        record.headers = ((CLEARS, b"1"),)
    judged = {at: places().judge(raw_records("events", at, records))["place"].to_list() for at in range(OF)}
    assert judged.pop(home("u")) == ["", "", ""]
    assert all(found == ["moved", CLEARED, "moved"] for found in judged.values())
