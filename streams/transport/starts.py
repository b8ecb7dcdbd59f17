"""Decides where a partition is read from: compares what is known of it with the log at the broker. Pure."""

from __future__ import annotations

from typing import NamedTuple

from .places import Place


class View(NamedTuple):
    """What the broker says about a partition, with respect to one place.

    Attributes
    ----------
    begin, end
        First offset, and offset after the last record.
    topic_id
        Id of the topic, b"" when the broker does not say.
    found
        (timestamp, crc) of the record at ``place.at``; None when there is no record with that offset.
    epoch_end
        Offset after the last record of the leader epoch ``place.epoch``, -1 unknown.
    """

    begin: int
    end: int
    topic_id: bytes = b""
    found: tuple[int, int] | None = None
    epoch_end: int = -1


class Verdict(NamedTuple):
    """How the log compares with a place: ``same``, ``lost`` (its records from ``offset`` on) or ``other``."""

    kind: str
    offset: int = -1


SAME, OTHER = Verdict("same"), Verdict("other")


class Start(NamedTuple):
    """Where to read from.

    Attributes
    ----------
    offset
        First offset to read.
    base
        Base of the effective offsets there.
    turn
        (offset, base): from this later offset on another base counts. None: none does.
    warnings
        What happened, as (action, text) for the log.
    unread
        (first, end): these offsets were deleted before they were read. None: none were.
    """

    offset: int
    base: int
    turn: tuple[int, int] | None = None
    warnings: tuple[tuple[str, str], ...] = ()
    unread: tuple[int, int] | None = None


def compare(place: Place, view: View) -> Verdict:
    """Return how the log of ``view`` compares with what was read up to ``place``.

    Where the broker has no topic ids, a log that does not have the last record read counts as another log.
    """
    ids = bool(place.topic_id and view.topic_id)
    if ids and place.topic_id != view.topic_id:
        return OTHER
    if place.at >= 0 and view.found is not None:
        if view.found == (place.timestamp, place.crc):
            return SAME
        cut = place.at if view.epoch_end < 0 else min(view.epoch_end, place.at)
    elif view.epoch_end >= 0 and ids:
        # A new leader may not show its last records yet, but knows where its epochs end.
        cut = view.epoch_end
    else:
        cut = view.end
    last = place.at if place.at >= 0 else place.next - 1
    if cut > last:
        return SAME  # compaction or retention removed the record, or a reader may not see it yet
    return Verdict("lost", cut) if ids else OTHER


def kept_of(place: Place, view: View) -> int:
    """Return up to which offset before ``place`` a log is still the one that was read; 0: it is another."""
    verdict = compare(place, view)
    if verdict is SAME:
        return place.next
    return 0 if verdict is OTHER else min(place.next, verdict.offset)


def decide(
    log: View,
    committed: int | None,
    state: tuple[Place, Verdict] | None = None,
    kept: tuple[Place, Verdict] | None = None,
) -> Start:
    """Return where to read from.

    Parameters
    ----------
    log
        The partition as the broker has it.
    committed
        Committed offset of the group; None without one.
    state
        Place up to which the state of an agent has everything, and its verdict; None when no state says it.
    kept
        Place that was committed together with ``committed``, and its verdict; None when there was none.
    """
    known = [pair for pair in (state, kept) if pair is not None]
    if not known:
        return _without_places(log, committed)
    anchor, verdict = known[0]
    if verdict is OTHER:
        seen = max(place.seen for place, told in known if told is OTHER)
        text = f"was deleted and made again: it is read from its beginning, offset {log.begin}"
        return Start(log.begin, max(0, seen - log.begin), None, (("topic_made_again", text),))
    base = anchor.base
    if state is not None and anchor.at < 0 and kept is not None and kept[1] is not OTHER:
        base = max(base, kept[0].base)  # an empty state does not know it
    wanted = [] if state is None else [anchor.next]
    if committed is not None and not (kept is not None and kept[1] is OTHER):
        wanted.append(committed)
    offset, turn, warnings = min(wanted, default=log.begin), None, []
    lost = [(place, told.offset) for place, told in known if told.kind == "lost"]
    if lost:
        cut = min(at for _, at in lost)
        seen = max(place.seen for place, _ in lost)
        turn, offset = (cut, seen - cut), min(offset, cut)
        count = max(place.next for place, _ in lost) - cut
        warnings.append(("records_lost", f"has lost its last {count} records: it goes on at offset {cut}"))
    elif state is not None:
        warnings += _moved(anchor, committed, kept, log)
    read_to = offset if state is None else anchor.next
    unread = (read_to, log.begin) if read_to < log.begin and anchor.next > 0 else None
    offset = max(offset, log.begin)
    if turn is not None and turn[0] <= offset:
        base, turn = turn[1], None
    return Start(offset, base, turn, tuple(warnings), unread)


def _without_places(log: View, committed: int | None) -> Start:
    """Return the start of a group that committed offsets without places, or nothing."""
    if committed is None:
        return Start(log.begin, 0)
    if committed > log.end:
        text = f"ends at {log.end}, before the committed offset {committed}: it is read from its beginning"
        return Start(log.begin, max(0, committed - log.begin), None, (("topic_made_again", text),))
    unread = (committed, log.begin) if committed < log.begin else None
    return Start(max(committed, log.begin), 0, unread=unread)


def _moved(
    state: Place, committed: int | None, kept: tuple[Place, Verdict] | None, log: View
) -> list[tuple[str, str]]:
    """Return a warning when the state and the committed offset do not fit."""
    if committed is None or (kept is not None and kept[0].at <= state.at and state.next > 0):
        return []  # the commit comes after the state is durable; offsets without a record may lie between
    if state.next == 0:
        if committed <= log.begin:
            return []
        text = f"the state has nothing of it: it is read from its beginning, not from offset {committed}"
        return [("state_lost", text)]
    if committed == state.next:
        return []
    if committed > state.next:
        text = f"is read from offset {state.next}, not {committed}: the state has nothing after that"
        return [("group_moved", text)]
    text = f"is read again from offset {committed}; the state has everything before {state.next} already"
    return [("group_moved", text)]
