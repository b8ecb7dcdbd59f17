"""Impressions, events and examples for the oracle, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from strategies import T0, record

from headrace.models.features.spec import SPEC
from headrace.oracle.compare.examples import compare_examples
from headrace.oracle.compare.findings import Findings
from headrace.oracle.features.judge import judge, valid
from headrace.oracle.features.outcomes import slots_of
from headrace.oracle.features.slot_labels import Early
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.readers import read_events
from headrace.oracle.records.shown import read_examples, read_shown
from headrace.streams.messages.schemas import Event, Example, Impression, Unshown
from headrace.streams.settings import HOUR_MS, MINUTE_MS

WAIT, EARLY = 10 * MINUTE_MS, Early(30_000, 1)
encode = msgspec.json.encode


def impression(
    request: str = "r", items: Sequence[str] = ("a", "b"), ts: int = T0, *, user: str = "u", online: str = ""
) -> Impression:
    n = len(items)
    x = np.random.default_rng(ts % 1000).normal(size=(n, len(SPEC))).astype("<f4")
    told = [round(1 / (k + 2), 3) for k in range(n)]
    return Impression(
        request, user, "home", ts, "BR", "tv", "v1", online, SPEC.version, list(items), told,
        [k % 2 == 1 for k in range(n)], told, x.tobytes(), [],
    )  # fmt: skip


def with_unshown(shown: Impression, *items: str) -> Impression:
    """Return a list with candidates that were not shown."""
    n = len(items)
    x = np.random.default_rng(n).normal(size=(n, len(SPEC))).astype("<f4")
    rest = Unshown(list(items), [1 / (k + 1) for k in range(n)], [0.1] * n, x.tobytes())
    return msgspec.structs.replace(shown, unshown=rest)


def event(kind: Any, item: str, ts: int, *, request: str = "r", user: str = "u", **more: Any) -> Event:
    return Event(f"{kind}-{item}-{ts}", kind, user, item, ts, request_id=request, **more)


def examples_of(shown: Impression, *outcomes: dict[str, Any]) -> list[Example]:
    """Return the examples of a list, with the outcomes (the fields that are not 0) of its first slots.

    Those of what was not shown come after the slots.
    """
    width, out = 4 * len(SPEC), []
    if (rest := shown.unshown) is not None:
        slots = len(shown.item_ids)
        as_shown = msgspec.structs.replace(
            shown, item_ids=rest.item_ids, propensities=rest.probabilities, scores=rest.scores,
            explored=[False] * len(rest.item_ids), features=rest.features, unshown=None,
        )  # fmt: skip
        more = [
            msgspec.structs.replace(e, position=slots + e.position, unshown=True, label="")
            for e in examples_of(as_shown, *outcomes[slots:])
        ]
        return [*examples_of(msgspec.structs.replace(shown, unshown=None), *outcomes[:slots]), *more]
    for k, item in enumerate(shown.item_ids):
        told = {"clicked": False, "dwell_ms": 0, "liked": False, "hidden": False}
        told |= outcomes[k] if k < len(outcomes) else {}
        touched = told["clicked"] or told["dwell_ms"] or told["liked"]
        told.setdefault("label", "touched" if touched else "skipped" if told["hidden"] else "unseen")
        made = Example(
            shown.request_id, shown.user_id, item, shown.surface, k, shown.ts, shown.country, shown.device,
            shown.ranker, shown.spec, shown.propensities[k], shown.explored[k], shown.scores[k], **told,
            features=shown.features[width * k : width * (k + 1)],
        )  # fmt: skip
        out.append(made)
    return out


def slots(
    shown: Sequence[tuple[Impression, int]],
    events: Sequence[tuple[Event, int]],
    examples: Sequence[Example] = (),
    written: int | Sequence[int] = T0 + WAIT,
    early: Early = EARLY,
) -> pl.DataFrame:
    """Return the oracle's slots of records with these timestamps.

    Examples were written at ``written``, or each at its time.
    """
    seen = [record(encode(i), offset=n, timestamp=at) for n, (i, at) in enumerate(shown)]
    did = [
        record(encode(e), key=e.user_id.encode(), offset=n, timestamp=at) for n, (e, at) in enumerate(events)
    ]
    read = read_shown(raw_records("i", 0, seen), max_bytes=10**6, spec=SPEC.version, width=len(SPEC))
    told = read_events(raw_records("e", 0, did), max_bytes=10**6, lateness_ms=HOUR_MS, future_ms=MINUTE_MS)
    return slots_of(read, valid(judge(told, MINUTE_MS)), WAIT, early, _read(examples, written))


def compare(expected: pl.DataFrame, examples: Sequence[Any], *, read_at: int = T0 + HOUR_MS) -> Findings:
    """Compare examples with slots."""
    findings = Findings()
    compare_examples(findings, expected, _read(examples, T0 + WAIT), read_at=read_at)
    return findings


def _read(examples: Sequence[Any], written: int | Sequence[int]) -> pl.DataFrame:
    times = [written] * len(examples) if isinstance(written, int) else written
    records = [
        record(encode(e), offset=n, timestamp=at)
        for n, (e, at) in enumerate(zip(examples, times, strict=True))
    ]
    return read_examples(raw_records("x", 0, records), max_bytes=10**6)
