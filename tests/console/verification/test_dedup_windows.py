"""The dedup window that a worker rebuilds is the one that the oracle expects."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from oracle_history import DEDUP, FUTURE, LATENESS, Known, did, records_of
from strategies import T0, record

from headrace.console.verification.dedup_windows import RebuiltWindow
from headrace.console.verification.letters import WRITTEN_MS, Letters
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.topics import compare_windows
from headrace.oracle.features.judge import remembered
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import dead_letter

SETTINGS = Settings(
    partitions=1, lateness_ms=LATENESS, future_ms=FUTURE, dedup_window_ms=DEDUP, max_event_bytes=5000
)


def rebuilt(records: list[Any], newest: int, cuts: list[int]) -> dict[int, int]:
    """Read the records from the first one dated a window before ``newest``, as a worker does."""
    since = next((i for i, r in enumerate(records) if r.timestamp >= newest - DEDUP), len(records))
    window = RebuiltWindow(SETTINGS, 0)
    edges = sorted({since, len(records), *(since + c % (len(records) - since + 1) for c in cuts)})
    for a, b in pairwise(edges):
        window.read(records[a:b])
    return window.held(newest)


@given(st.lists(did, min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_the_rebuilt_window_has_the_ids_that_the_oracle_expects(history: Any, cuts: list[int]) -> None:
    records = records_of(history)
    judged = Known(records, []).judged
    newest = int(str(judged["stream"].max()))
    findings = Findings()
    compare_windows(findings, 0, remembered(judged, DEDUP), rebuilt(records, newest, cuts))
    assert findings.first == []


def test_a_record_that_the_rebuilt_window_lacks_is_found() -> None:
    records = records_of([(0, "click", i, 1000, 0, 0, "", 30, False) for i in range(5)])
    judged = Known(records, []).judged
    newest = records[-1].timestamp
    findings = Findings()
    compare_windows(findings, 0, remembered(judged, DEDUP), rebuilt(records[:3], newest, []))
    assert findings.differences == 2


def test_a_letter_excuses_a_record_that_is_dated_in_the_future_and_no_other() -> None:
    def letter(
        timestamp: int, written: int, reason: str = "from_the_future", field: str = "timestamp"
    ) -> Any:
        original = record(b"{}", offset=7, timestamp=timestamp)
        key, value, _, headers = dead_letter(original, "events", 2, agent="a", reason=reason, field=field)
        made = record(value, key=key, timestamp=written)
        made.headers = headers
        out = Letters()
        out.add(made, FUTURE)
        return out

    at = {("events", 2, 7)}
    ahead = letter(T0 + FUTURE + 1, T0)
    assert (ahead.every, ahead.future) == (at, at)
    assert letter(T0 + FUTURE + 1, T0 + WRITTEN_MS).future == at
    assert letter(T0, T0).future == set(), "a worker's clock was behind: the record counts"
    assert letter(T0 + 2 * FUTURE, T0, reason="too_late").future == set()
    assert letter(T0 + 2 * FUTURE, T0, field="ts").future == set(), "the event's own ts, told by its record"
