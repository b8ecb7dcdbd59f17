"""What growing from one number of partitions to another one needs, and what stands in its way. Pure.

Everything is worked out from what the changelogs say: up to where each old partition has everything (its
*cut*), and which numbers its rows have. The new number is a multiple of the old one, so each new partition
has one parent, and goes on with the numbers of its parent: a new partition of `events` begins at offset 0,
and its place has a base that makes the numbers go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.agents.partitions.items import MARK
from headrace.agents.partitions.origins import mark_key
from headrace.agents.partitions.source_marks import SourceMark
from headrace.agents.partitions.users import MAX_SLOTS, SHOWN_SOURCE
from headrace.agents.stage.partitions import PLACE, place_key
from headrace.models.state.users import SEQ_STEP
from headrace.streams.errors import ConfigError, HeadraceError
from headrace.streams.topics.growths import GROWN, Growth, Growths
from headrace.streams.topics.names import Topics
from headrace.streams.transport.places import Place

#: What to do after a stop that was not clean.
AGAIN = "start the workers again, wait until `headrace lag` shows 0, and stop them with SIGTERM"


class NotReadyError(HeadraceError):
    """The partitions cannot be made more now; the message says why, and whether anything was changed."""


def check_numbers(old: int, new: int) -> None:
    """Raise ``ConfigError`` when partitions cannot be made from ``old`` to ``new``."""
    if new < old:
        raise ConfigError(f"there are {old} partitions: Kafka cannot make them fewer")
    if new % old:
        raise ConfigError(
            f"{new} is not a multiple of {old}, the number of partitions now: each new partition must have "
            f"one parent ({2 * old}, {3 * old}, {4 * old} and so on can be had)"
        )


def cuts_of(metas: Sequence[Mapping[bytes, bytes]], topic: str, else_at: Mapping[int, int]) -> list[Place]:
    """Return for every partition the place up to which its state has everything of a topic.

    Parameters
    ----------
    metas
        The meta records of each partition of the changelog.
    else_at
        Where a partition is read from whose state does not say it.
    """
    found = (Place.decode(meta.get(place_key(topic), b"")) for meta in metas)
    return [Place(else_at.get(n, 0)) if place is None else place for n, place in enumerate(found)]


@dataclass
class Largest:
    """The largest numbers in the rows of one partition; -1 without any.

    Attributes
    ----------
    events, shown, users, item_events
        Numbers of records of `events`, `impressions`, `users` and `item-events`.
    """

    events: int = -1
    shown: int = -1
    users: int = -1
    item_events: int = -1


@dataclass
class Found:
    """What the changelogs say, by partition.

    Attributes
    ----------
    users, items
        Meta records of `user-state` and of `item-features`.
    largest
        The largest numbers in rows.
    rows, moving
        How many rows each changelog has, and how many of them go to a new partition.
    homeless
        Users whose partition cannot be worked out: how many.
    alone, expired
        Rows of what users were shown without a row of their user: how many are to be kept, and how many are
        past their time to live.
    """

    users: list[dict[bytes, bytes]] = field(default_factory=list)
    items: list[dict[bytes, bytes]] = field(default_factory=list)
    largest: list[Largest] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    moving: dict[str, int] = field(default_factory=dict)
    homeless: int = 0
    alone: int = 0
    expired: int = 0


class Plan:
    """A growth, worked out from what the changelogs say.

    Parameters
    ----------
    topics
        Names of the topics.
    read_from
        By topic and partition, where `ingest` or `aggregate` reads on if its state does not say it.

    Attributes
    ----------
    growth
        The growth.
    """

    def __init__(
        self, topics: Topics, old: int, new: int, found: Found, read_from: Mapping[str, Mapping[int, int]]
    ) -> None:
        self._topics, self._found = topics, found
        sources = topics.events, topics.users, topics.impressions, topics.items
        self._places = {t: cuts_of(found.users, t, read_from.get(t, {})) for t in sources}
        t = topics.item_events
        self._places[t] = cuts_of(found.items, t, read_from.get(t, {}))
        cuts = {t: [place.next for place in places] for t, places in self._places.items()}
        logs = {t: [place.encode() for place in self._places[t]] for t in sources}
        self.growth = Growth(old, new, cuts, logs)

    def seen(self, topic: str, partition: int) -> int:
        """Return the number after everything that was counted of a partition."""
        return self._places[topic][partition].seen

    # -- what stands in the way

    def faults(self) -> list[str]:
        """Return why rows would lose or repeat counts, a sentence each.

        A worker that was killed may have written rows, or sent item events, of records that its place does
        not have yet. Counted again in another partition, nobody would recognise them.
        """
        t, out = self._topics, []
        for n in range(self.growth.old):
            largest = self._found.largest[n]
            for topic, number in (
                (t.events, largest.events),
                (t.impressions, largest.shown),
                (t.users, largest.users),
                (t.item_events, largest.item_events),
            ):
                if number >= self.seen(topic, n):
                    out.append(f"rows have counted records of {topic}-{n} that are to be read again: {AGAIN}")
        if self._marks_ahead():
            out.append(f"item events were counted whose events are to be read again: {AGAIN}")
        if self._found.homeless:
            out.append(
                f"{self._found.homeless} rows of users do not say in which partition their user is: an older "
                "version has written them, and each is completed at its user's next event"
            )
        if self._found.alone:
            out.append(
                f"{self._found.alone} rows of what users were shown have no row of their user, and are not "
                "past HEADRACE_STATE_TTL_S: rows of users were deleted by hand"
            )
        return out

    def _marks_ahead(self) -> bool:
        t = self._topics
        for meta in self._found.items:
            for key, value in meta.items():
                if not key.startswith(MARK):
                    continue
                source, mark = int.from_bytes(key[len(MARK) :], "little"), SourceMark.of(value).mark
                topic, step = (t.events, SEQ_STEP) if source < SHOWN_SOURCE else (t.impressions, MAX_SLOTS)
                if mark >= self.seen(topic, source % SHOWN_SOURCE) * step:
                    return True
        return False

    # -- what the new partitions begin with

    def parents(self) -> Iterable[tuple[int, list[int]]]:
        """Yield every old partition and the partitions that its rows go to, itself first."""
        old, new = self.growth.old, self.growth.new
        for parent in range(old):
            yield parent, list(range(parent, new, old))

    def users_meta(self, partition: int) -> dict[bytes, bytes]:
        """Return the meta records of a partition of `user-state` after the growth."""
        parent = partition % self.growth.old
        meta = dict(self._found.users[parent])
        meta[GROWN] = Growths.of(meta).then(self.growth).encode()
        if partition == parent:
            return meta
        t = self._topics
        meta = self._begun(meta, parent, (t.events, t.users, t.impressions, t.items))
        # Should the group be moved back, what the parent sends on of before the cut is known here.
        for topic in (t.events, t.users):
            last = self.seen(topic, parent) - 1
            meta[mark_key(topic, parent)] = last.to_bytes(8, "little", signed=True)
        return meta

    def items_meta(self, partition: int) -> dict[bytes, bytes]:
        """Return the meta records of a partition of `item-features` after the growth."""
        parent = partition % self.growth.old
        meta = dict(self._found.items[parent])
        return meta if partition == parent else self._begun(meta, parent, (self._topics.item_events,))

    def _begun(self, meta: dict[bytes, bytes], parent: int, topics: Iterable[str]) -> dict[bytes, bytes]:
        """Return the meta records of a new partition, whose logs begin with the numbers of its parent's."""
        kept = {key: value for key, value in meta.items() if not key.startswith(PLACE)}
        for topic in topics:
            place = self._places[topic][parent]
            kept[place_key(topic)] = Place(0, place.seen, topic_id=place.topic_id).encode()
        return kept
