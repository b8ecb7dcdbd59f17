"""The topics: names, partitions, retention, limits. The first seven are the public contract."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.streams.settings import DAY_MS, HOUR_MS, Settings

#: Header of a record that was sent on from a wrong partition: its origin, ``<topic>/<partition>/<offset>``.
FORWARDED = "headrace-from"
#: Header of a null that hides the record of its key in a wrong partition, and does nothing else there.
CLEARS = "headrace-clears"
#: Bytes by which a dead letter may be larger than its record: its headers, and the overhead of a batch.
LETTER_ROOM = 128 * 1024
#: Largest record that our own topics take at least, bytes: rows, impressions and models have the size that
#: they have, however small the records of the public topics must be.
OWN_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic.

    Attributes
    ----------
    name
        Full name.
    partitions
        Number of partitions.
    compacted
        Whether it is compacted; its records are then kept for ever (``retention_ms`` does not count).
    retention_ms
        How long records are kept, ms.
    room
        Bytes by which its largest record may exceed ``max_message_bytes`` of the settings.
    least_bytes
        Largest record that it takes whatever ``max_message_bytes`` is.
    broker_dated
        Whether only workers write it, and nobody asks when by their clocks. The broker dates its records: a
        worker whose clock is hours ahead can write, too.
    most_bytes
        What a partition keeps at most, about; 0: everything.
    """

    name: str
    partitions: int
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    room: int = 0
    least_bytes: int = 0
    broker_dated: bool = False
    most_bytes: int = 0

    def config(self, settings: Settings) -> dict[str, str]:
        """Return the broker-side configuration: everything that correctness relies on."""
        config = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(-1 if self.compacted else self.retention_ms),
            "max.message.bytes": str(max(settings.max_message_bytes, self.least_bytes) + self.room),
            # `ts` of an event is compared with the time of sending, so that time must be kept.
            "message.timestamp.type": "LogAppendTime" if self.broker_dated else "CreateTime",
            # A record dated years ahead is refused at once, by the broker's clock.
            "message.timestamp.after.max.ms": str(settings.future_ms),
        }
        if self.most_bytes:
            # Brokers delete whole segments, never the last one. A segment must take the largest record.
            largest = int(config["max.message.bytes"])
            config["retention.bytes"] = str(self.most_bytes)
            config["segment.bytes"] = str(max(self.most_bytes // 8, largest + LETTER_ROOM))
        if self.compacted:
            # A tombstone must be there until everybody has read it: also a worker that was down, and one that
            # starts from a snapshot.
            config["delete.retention.ms"] = str(DAY_MS)
        return config


class Topics:
    """Topic names of one installation; ``Topics(settings).events`` and so on."""

    def __init__(self, settings: Settings) -> None:
        name = settings.name
        self.events = name("events")
        self.items = name("items")
        self.users = name("users")
        self.requests = name("rec-requests")
        self.bulk_requests = name("rec-requests-bulk")
        self.replies = name("rec-replies")
        self.dead_letters = name("dead-letters")
        self.impressions = name("impressions")
        self.traces = name("traces")
        self.item_events = name("item-events")
        self.item_features = name("item-features")
        self.item_countries = name("item-countries")
        self.neighbours = name("item-neighbours")
        self.user_state = name("user-state")
        self.shown_state = name("shown-state")
        self.examples = name("examples")
        self.models = name("models")
        self.model_updates = name("model-updates")

    def specs(self, settings: Settings) -> list[TopicSpec]:
        """Return the specification of every topic, the public ones first."""
        n = settings.partitions
        return [
            TopicSpec(self.events, n),
            TopicSpec(self.items, n, compacted=True),
            TopicSpec(self.users, n, compacted=True),
            TopicSpec(self.requests, n, retention_ms=DAY_MS),
            TopicSpec(self.bulk_requests, n),  # they may wait for days
            TopicSpec(self.replies, n, retention_ms=DAY_MS, broker_dated=True),
            # A dead letter is the original record and more: the largest record of another topic must fit.
            TopicSpec(self.dead_letters, n, retention_ms=30 * DAY_MS, room=LETTER_ROOM, broker_dated=True),
            TopicSpec(self.impressions, n, least_bytes=OWN_BYTES),
            TopicSpec(
                self.traces,
                n,
                retention_ms=int(settings.trace_hours * HOUR_MS),
                least_bytes=OWN_BYTES,
                broker_dated=True,
                most_bytes=settings.trace_mb * 1_000_000 // n,
            ),
            TopicSpec(self.item_events, n, retention_ms=DAY_MS, least_bytes=OWN_BYTES, broker_dated=True),
            TopicSpec(self.item_features, n, compacted=True, least_bytes=OWN_BYTES, broker_dated=True),
            TopicSpec(self.item_countries, n, compacted=True, least_bytes=OWN_BYTES, broker_dated=True),
            TopicSpec(self.neighbours, n, compacted=True, least_bytes=OWN_BYTES, broker_dated=True),
            TopicSpec(self.user_state, n, compacted=True, least_bytes=OWN_BYTES, broker_dated=True),
            TopicSpec(self.shown_state, n, compacted=True, least_bytes=OWN_BYTES, broker_dated=True),
            TopicSpec(self.examples, n, least_bytes=OWN_BYTES),
            TopicSpec(self.models, 1, compacted=True, least_bytes=OWN_BYTES, broker_dated=True),
            # What is not merged is told again.
            TopicSpec(self.model_updates, 1, retention_ms=HOUR_MS, least_bytes=OWN_BYTES, broker_dated=True),
        ]
