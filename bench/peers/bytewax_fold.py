"""Bytewax: one `fold_window` count of five minutes per user, event time.

    python bytewax_fold.py BROKERS TOPIC OUT

Reads to the end of the topic and stops. Writes a JSON object to `OUT`: the number of events counted in closed
windows, and of events that came after their window had closed.

Follows the best practice of Bytewax: large polls, decoding (orjson) and keying in one step over whole
batches, no ordering within a window (a count needs none), no output except a sum in the sink. There is no
recovery store, which would cost more. Windows close when an event of their key comes, or at the end, not by a
timer: in a backlog the end of every window is already past, and the timers would cost as much as all other
work.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

brokers, topic, out = sys.argv[1:]
seen = {"windows": 0, "counted": 0, "late": 0}


class Counted(StatelessSinkPartition):
    def write_batch(self, items):
        seen["windows"] += len(items)
        seen["counted"] += sum(count for _user, (_window, count) in items)


class Late(StatelessSinkPartition):
    def write_batch(self, items):
        seen["late"] += len(items)


class Sink(DynamicSink):
    def __init__(self, part):
        self._part = part

    def build(self, step_id, worker_index, worker_count):
        return self._part()


def decode(messages):
    rows = []
    for message in messages:
        event = orjson.loads(message.value)
        rows.append((event["user_id"], event["ts"]))
    return rows


flow = Dataflow("bench")
messages = op.input("events", flow, KafkaSource([brokers], [topic], tail=False, batch_size=50_000))
keyed = op.flat_map_batch("decode", messages, decode)
windows = win.fold_window(
    "count",
    keyed,
    win.EventClock(
        ts_getter=lambda ts: datetime.fromtimestamp(ts / 1000, UTC),
        wait_for_system_duration=timedelta(minutes=1),
        to_system_utc=lambda _close: None,
    ),
    win.TumblingWindower(length=timedelta(minutes=5), align_to=datetime(2020, 1, 1, tzinfo=UTC)),
    builder=int,
    folder=lambda count, _ts: count + 1,
    merger=int.__add__,
    ordered=False,
)
op.output("counted", windows.down, Sink(Counted))
op.output("late", windows.late, Sink(Late))

run_main(flow)
Path(out).write_text(json.dumps(seen))
