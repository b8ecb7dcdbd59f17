"""Memory and CPU of the outcome join: what an open list costs, and what it costs to make its examples.

    python bench/bench_join.py            # prints one JSON object

Lists of 20 slots; half of them have an event. ``bytes_per_open_list``: what the partition holds, measured by
tracemalloc, with its events, after the records are freed. ``cpu_us_per_list``: decode, open, join, decode
again, make and encode the examples; without the broker.
"""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from headrace.agents.partitions.outcomes import JoinPartition
from headrace.agents.partitions.written import joined, marks_of
from headrace.agents.stage.join_writer import SLOTS
from headrace.models.features.spec import SPEC
from headrace.models.outcomes import examples_of
from headrace.streams.messages.schemas import Event, Impression

LISTS, PER_BATCH, N_SLOTS = 20_000, 50, 20
RUN_LISTS = 5000
WAIT, BEGIN = 600_000, 1_800_000_000_000
EVERY_MS = 4  # one list every so often: 250 a second in one partition
encode, decode_list = msgspec.json.Encoder().encode, msgspec.json.Decoder(Impression).decode
decode_event = msgspec.json.Decoder(Event).decode


def records(first: int, n: int) -> tuple[list[bytes], list[bytes]]:
    """Return the values of impressions and events."""
    rng = np.random.default_rng(first)
    features = rng.standard_normal((n, N_SLOTS * len(SPEC))).astype("<f4")
    shown, events = [], []
    for i in range(n):
        number, ts = first + i, BEGIN + (first + i) * EVERY_MS
        request, user = f"request-{number:012}", f"user-{number % 5000}"
        items = [f"item-{rng.integers(10**6)}" for _ in range(N_SLOTS)]
        shown.append(
            encode(
                Impression(
                    request, user, "home", ts, "BR", "tv", "0a1b2c3d4e5f", "5f4e3d2c1b0a", SPEC.version,
                    items, rng.random(N_SLOTS).tolist(), [False] * N_SLOTS, rng.random(N_SLOTS).tolist(),
                    features[i].tobytes(), [["popular", "neighbours"]] * N_SLOTS,
                )
            )
        )  # fmt: skip
        if i % 2:
            events.append(encode(Event(f"e{number}", "click", user, items[3], ts, request_id=request)))
    return shown, events


def batches(lists: int) -> Iterator[tuple[int, list[bytes], list[bytes]]]:
    for first in range(0, lists, PER_BATCH):
        yield first, *records(first, PER_BATCH)


def read(part: JoinPartition, first: int, shown: list[bytes], events: list[bytes]) -> None:
    """Apply one batch of each topic, as the stage does."""
    at, now = BEGIN + first * EVERY_MS, BEGIN + WAIT * 100
    part.arrive(first, first + len(shown))
    times = [at] * len(shown)
    part.show([decode_list(v) for v in shown], range(first, first + len(shown)), times, now)
    part.happen([(decode_event(v), at) for v in events], now)
    part.shown.read(at, now)
    part.events.read(at, now)


def write(part: JoinPartition, values: dict[int, bytes]) -> int:
    """Make the examples of everything that is due; return how many."""
    count, done = 0, list[tuple[int, int]]()
    while n := part.due(SLOTS):
        closing = part.closing(n)
        for c in closing:
            done = joined(done, c.since, c.offset)
            examples = examples_of(decode_list(values[c.offset]), c.outcomes)
            marks = marks_of(c.offset, range(c.slots), done, 0)
            out: list[Any] = [(encode(e), mark) for e, mark in zip(examples, marks, strict=True)]
            count += len(out)
        part.close(closing)
    return count


def memory() -> dict[str, float]:
    part = JoinPartition(WAIT * 10, 0, 0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    most = 0.0
    for first, shown, events in batches(LISTS):
        read(part, first, shown, events)
        if first >= LISTS // 4:
            most = max(most, part.nbytes / len(part))
    del shown, events
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {"bytes_per_open_list": round(held / len(part)), "most_allocated_per_open_list": round(most)}


def cpu() -> dict[str, float]:
    part = JoinPartition(WAIT, 0, 0)
    given = list(batches(RUN_LISTS))
    values = {first + i: v for first, shown, _ in given for i, v in enumerate(shown)}
    began = time.process_time()
    for batch in given:
        read(part, *batch)
    opened = time.process_time() - began
    for progress in (part.shown, part.events):
        progress.read(BEGIN + 10 * WAIT, BEGIN + 100 * WAIT)
    began = time.process_time()
    count = write(part, values)
    closed = time.process_time() - began
    assert count == RUN_LISTS * N_SLOTS
    return {
        "cpu_us_per_list_opened": round(opened / RUN_LISTS * 1e6, 1),
        "cpu_us_per_list_closed": round(closed / RUN_LISTS * 1e6, 1),
        "cpu_us_per_list": round((opened + closed) / RUN_LISTS * 1e6, 1),
    }


if __name__ == "__main__":
    print(json.dumps({"slots": N_SLOTS, "lists": LISTS, **memory(), **cpu()}))
