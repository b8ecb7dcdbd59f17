"""Quix Streams: one tumbling count of five minutes per user, as in its documentation.

    python quix.py BROKERS TOPIC GROUP

Uses the defaults of Quix Streams: JSON by orjson, state in RocksDB with a changelog topic, at-least-once, a
commit every 5 s. `final` sends a window once, when it closes (`current` would send every change). Windows
close by the time of their partition, which costs a quarter less than by the time of their key.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta

from quixstreams import Application

brokers, topic, group = sys.argv[1:]

with tempfile.TemporaryDirectory(prefix="quix-") as folder:
    app = Application(
        brokers,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        state_dir=folder,
        loglevel="WARNING",
    )
    events = app.topic(topic, key_deserializer="str", value_deserializer="json")
    counts = app.topic(f"{group}-counts", key_serializer="str", value_serializer="json")
    sdf = app.dataframe(events)
    sdf = sdf.tumbling_window(timedelta(minutes=5), grace_ms=timedelta(minutes=1)).count()
    sdf = sdf.final(closing_strategy="partition")
    sdf = sdf.to_topic(counts)
    app.run()
