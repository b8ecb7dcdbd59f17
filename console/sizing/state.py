"""The memory of what the workers of a role hold together, without their processes."""

from __future__ import annotations

from headrace.console.sizing.distinct import different_items
from headrace.console.sizing.figures import Reader
from headrace.console.sizing.load import Load
from headrace.console.sizing.traffic import busy_events, busy_lists, slots_per_s
from headrace.streams.settings import Settings

#: Serving keeps the whole row of an item for so long after its last event, and at most so many rows. A test
#: compares them with ``serving/mirrored_items.py`` and its like, which need numpy.
ACTIVE_S = 49 * 3600
MOST_ITEM_ROWS, MOST_COUNTRY_ROWS, MOST_IDLE_ITEMS = 500_000, 100_000, 20_000_000


def ingest(load: Load, settings: Settings, read: Reader) -> float:
    """Return the bytes of user rows, rows of what was shown, evicted rows, and ids of the last minutes.

    Rows of active users are whole, others evicted; standbys hold the same once more.
    """
    row = read["user_row_memory_bytes"] + read["shown_row_memory_bytes"]
    evicted = 2 * read["evicted_row_memory_bytes"]
    rows = load.active_users * row + (load.users - load.active_users) * evicted
    ids = load.events_per_s * settings.dedup_window_ms / 1000 * read["dedup_id_bytes"]
    return rows * (1 + settings.standby_replicas) + ids


def aggregate(load: Load, settings: Settings, read: Reader) -> float:
    """Return the bytes of item rows, of items in countries, and of neighbours, with standbys."""
    rows = (1 + load.countries) * read["item_row_memory_bytes"] + read["neighbour_row_memory_bytes"]
    return load.items * rows * (1 + settings.standby_replicas)


def learn(load: Load, settings: Settings, read: Reader) -> float:
    """Return the bytes of open lists, and of the events that lists may still wait for."""
    wait_s = settings.outcome_wait_ms / 1000
    lists = load.requests_per_s * wait_s * read["open_list_bytes"]
    # An event waits as long as a list: its list may be written after it, and be open as long again.
    return lists + load.events_per_s * 2 * wait_s * read["join_event_bytes"]


def each_ingest(load: Load, read: Reader) -> float:
    """Return the bytes that every process of `ingest` has of all items: category and creator."""
    return load.items * read["item_attribute_bytes"]


def each_serve(load: Load, read: Reader) -> float:
    """Return the bytes that every process of `serve` has of item rows: whole ones, and of idle items."""
    lately = different_items((load.events_per_s + slots_per_s(load)) * ACTIVE_S, load.items)
    whole = min(lately, MOST_ITEM_ROWS) + min(lately * load.countries, MOST_COUNTRY_ROWS)
    idle = min(load.items - min(lately, MOST_ITEM_ROWS), MOST_IDLE_ITEMS)
    return whole * read["item_row_memory_bytes"] + idle * read["idle_item_memory_bytes"]


def machine_serve(load: Load, read: Reader) -> float:
    """Return the bytes of the catalogue that all serving processes of a machine map."""
    return load.items * read["snapshot_item_bytes"]


def ingest_disk(load: Load, settings: Settings, read: Reader) -> float:
    """Return the bytes of `ingest` on local disks: the file of evicted rows, twice their size at most, and
    snapshots of all rows; standbys have them, too."""
    quiet = read.at("packed_user_bytes", load.quiet_events) + read.at("packed_shown_bytes", load.quiet_lists)
    busy = read.at("packed_user_bytes", busy_events(load)) + read.at("packed_shown_bytes", busy_lists(load))
    evicted = (load.users - load.active_users) * quiet
    return (3 * evicted + load.active_users * busy) * (1 + settings.standby_replicas)
