"""Records and bytes of every topic: how many a second, how large, how much is kept.

Topics are named by their attribute of ``Topics``. Not counted are `dead-letters`, `rec-requests-bulk`,
`models` and `model-updates`: they do not follow from the load.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.console.sizing.distinct import different_items, different_users
from headrace.console.sizing.figures import Figure, Reader
from headrace.console.sizing.load import Load
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.names import Topics

DAY_S = 86_400
MONTH_S = 30 * DAY_S
#: Item rows have the counts of so many days (``item_ttl_s``): what an item has had then fills its row.
ROW_DAYS = 7
#: A compacted topic has, besides its rows, at most as many older versions (Kafka compacts at half dirty).
VERSIONS = 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """One topic.

    Attributes
    ----------
    records_per_s, record_bytes
        Records a second; bytes of one in the files of a broker, compressed.
    kept
        Bytes that are kept, without replicas.
    figures
        The same with their formulas.
    """

    records_per_s: float
    record_bytes: float
    kept: float
    figures: tuple[Figure, ...]

    @property
    def bytes_per_s(self) -> float:
        """Bytes a second that are written, without replicas."""
        return self.records_per_s * self.record_bytes


def traffic(load: Load, settings: Settings, constants: Reader) -> dict[str, Traffic]:
    """Return the traffic of every topic that is counted."""
    return _Made(load, settings, constants).topics


def slots_per_s(load: Load) -> float:
    """Return shown slots a second."""
    return load.requests_per_s * load.slots


def examples_per_s(load: Load, settings: Settings) -> float:
    """Return examples a second: one for each slot, and a sample of what was not shown of some lists."""
    unshown = settings.unshown_share * (settings.unshown_next + settings.unshown_random)
    return load.requests_per_s * (load.slots + unshown)


def events_of_item(load: Load) -> float:
    """Return the events of an item that its row has: those of a week, also that it was shown."""
    return max(1.0, (load.events_per_s + slots_per_s(load)) * ROW_DAYS * DAY_S / load.items)


def busy_events(load: Load) -> float:
    """Return the events of an active user in 30 days."""
    return max(load.quiet_events, load.events_per_s * MONTH_S / load.active_users)


def busy_lists(load: Load) -> float:
    """Return the lists of an active user in 30 days."""
    return max(load.quiet_lists, load.requests_per_s * MONTH_S / load.active_users)


class _Made:
    def __init__(self, load: Load, settings: Settings, read: Reader) -> None:
        self._load, self._settings, self._read = load, settings, read
        self._retention = {spec.name: spec.retention_ms for spec in Topics(settings).specs(settings)}
        self.topics: dict[str, Traffic] = {}
        events, lists, slots = load.events_per_s, load.requests_per_s, slots_per_s(load)
        self._log("events", events, read["event_bytes"], "events/s")
        self._log("requests", lists, read["request_bytes"], "requests/s")
        self._log("replies", lists, read["reply_bytes"], "requests/s")
        self._log("impressions", lists, read["impression_bytes"], "requests/s")
        self._log("traces", lists * settings.trace_share, read["trace_bytes"], "requests/s x trace share")
        both = events * read["item_event_bytes"] + slots * read["item_shown_bytes"]
        mixed = both / ((events + slots) or 1)
        self._log("item_events", events + slots, mixed, "events/s and shown slots/s")
        self._log("examples", examples_per_s(load, settings), read["example_bytes"], "slots/s and samples/s")
        self._published("items", load.items, "item_bytes")
        self._published("users", load.users, "profile_bytes")
        self._states(events + slots)

    def _states(self, on_items: float) -> None:
        load, every = self._load, self._settings.durable_every_ms / 1000
        users = different_users(load.events_per_s * every, load.active_users) / every
        lists = different_users(load.requests_per_s * every, load.active_users) / every
        busy, quiet = busy_events(load), load.quiet_events
        self._rows("user_state", "user_state_bytes", users, busy, quiet, load.active_users, load.users)
        busy, quiet = busy_lists(load), load.quiet_lists
        self._rows("shown_state", "shown_state_bytes", lists, busy, quiet, load.active_users, load.users)
        of_item, n = events_of_item(load), load.items
        changed = different_items(on_items * every, n) / every
        self._rows("item_features", "item_features_bytes", changed, of_item, of_item, n, n)
        pairs = n * load.countries
        changed = different_items(on_items * every, pairs) / every
        of_pair = max(1.0, of_item / load.countries)
        self._rows("item_countries", "item_features_bytes", changed, of_pair, of_pair, pairs, pairs)
        # A click makes pairs with the items clicked before it; each changes the rows of both.
        clicks = load.events_per_s * self._read["neighbour_rows_per_event"]
        changed = min(different_items(clicks * every, n) / every, n / every)
        self._rows("neighbours", "neighbour_bytes", changed, of_item, of_item, n, n)

    def _log(self, topic: str, per_s: float, size: float, what: str) -> None:
        """Add a topic whose records are deleted when they are old."""
        retention = self._retention[getattr(Topics(self._settings), topic)]
        load = self._load
        if load.retention_days is not None and topic in {"events", "impressions", "examples"}:
            retention = int(load.retention_days * DAY_MS)
        days = retention / DAY_MS
        self._add(topic, per_s, size, per_s * size * retention / 1000, f"{what} x bytes x {days:g} days")

    def _published(self, topic: str, rows: float, constant: str) -> None:
        """Add a compacted topic of the public contract: everything is sent again within 30 days."""
        size = self._read[constant]
        self._add(
            topic, rows / MONTH_S, size, VERSIONS * rows * size, f"rows x bytes x {VERSIONS} until compacted"
        )

    def _rows(
        self, topic: str, curve: str, changed: float, busy: float, quiet: float, active: float, rows: float
    ) -> None:
        """Add a changelog. Rows of busy keys are written, those of all are kept."""
        size, small = self._read.at(curve, busy), self._read.at(curve, quiet)
        kept = VERSIONS * (active * size + (rows - active) * small)
        how = f"rows x bytes x {VERSIONS} until compacted; written: rows changed within durable_every_ms"
        self._add(topic, changed, size, kept, how)

    def _add(self, topic: str, per_s: float, size: float, kept: float, how: str) -> None:
        replicas, month = self._load.replication, per_s * size * MONTH_S
        kept_figure = self._read.figure(topic, "kept", kept * replicas, "bytes", f"{how} x replicas")
        self._read.also([kept_figure])
        written = self._read.figure(
            topic, "written", month * replicas, "bytes/month", "records/s x bytes x 30 days x replicas"
        )
        self.topics[topic] = Traffic(per_s, size, kept, (kept_figure, written))
