"""What the topics hold after a chaos run, and how their records must fit together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos_states import Demands, Origin, Stated, unstated

#: user, request, time of an impression (ms): a request that is answered again shows another list
Shown = tuple[str, str, int]
#: the same, and the position in the list
Slot = tuple[str, str, int, int]


@dataclass(slots=True)
class Found:
    """The records found in the topics. An *origin* is the place where a record was first written.

    Attributes
    ----------
    bad
        Records that must be refused.
    buried
        Origin -> agent and reason of a dead letter about it.
    misplaced
        Good records in another partition than that of their key, or without a key.
    copies
        Place of a record that was sent on -> its origin.
    astray
        Records that were sent on and are not in the partition of their key.
    aborted
        Records of aborted transactions that a reader of committed records got nevertheless.
    asked, asked_at
        Correlation id -> time (ms) and origin of a request. Those ``in_bulk`` may wait for their replies.
    demands
        The states that requests demanded (``at_least``), and whether their replies have them.
    forgotten
        Users who were forgotten: afterwards nothing is behind their replies.
    verdicts
        Of every reply: correlation id, whether the request was bad, and the error.
    places
        User and id of an event -> where its records are.
    by_http
        Id of an event that was sent over HTTP -> where it is.
    shown
        Impressions and their numbers of slots; ``slots`` counts the examples of every slot.
    labels
        How many examples have each label.
    examples, logged
        Partition, offset, request and position of every example, in the topic and in the Parquet log.
    """

    events: int = 0
    again: int = 0
    bad: set[Origin] = field(default_factory=set)
    buried: dict[Origin, str] = field(default_factory=dict)
    letters: int = 0
    misplaced: set[Origin] = field(default_factory=set)
    copies: dict[Origin, Origin] = field(default_factory=dict)
    astray: list[Origin] = field(default_factory=list)
    aborted: list[Origin] = field(default_factory=list)
    asked: dict[bytes, int] = field(default_factory=dict)
    asked_at: dict[bytes, Origin] = field(default_factory=dict)
    in_bulk: set[bytes] = field(default_factory=set)
    answered: dict[bytes, int] = field(default_factory=dict)
    replies: int = 0
    demands: Demands = field(default_factory=Demands)
    forgotten: set[bytes] = field(default_factory=set)
    verdicts: list[tuple[bytes, bool, Stated | None]] = field(default_factory=list)
    places: dict[tuple[str, str], list[Origin]] = field(default_factory=dict)
    by_http: dict[str, list[Origin]] = field(default_factory=dict)
    shown: dict[Shown, int] = field(default_factory=dict)
    slots: Counter[Slot] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    examples: set[tuple[int, int, str, int]] = field(default_factory=set)
    logged: set[tuple[int, int, str, int]] = field(default_factory=set)

    def rebase(self) -> None:
        """Let ``copies`` name offsets of the logs.

        In a topic that was made again, a record that is sent on names another offset: it continues the
        numbers of the log before. The distance is the same for all records of a partition.
        """
        named: dict[tuple[str, int], set[int]] = {}
        there: dict[tuple[str, int], set[int]] = {}
        for found, records in ((named, self.copies.values()), (there, self.misplaced)):
            for topic, partition, offset in records:
                found.setdefault((topic, partition), set()).add(offset)
        by = {
            log: min(offsets) - min(there[log])
            for log, offsets in named.items()
            if log in there and not offsets <= there[log]
        }
        self.copies = {
            place: (topic, partition, offset - by.get((topic, partition), 0))
            for place, (topic, partition, offset) in self.copies.items()
        }

    def missing_letters(self) -> list[Origin]:
        """Return bad records without a dead letter."""
        return sorted(self.bad - self.buried.keys())

    def unexpected_letters(self) -> list[tuple[Origin, str]]:
        """Return dead letters about good records, except about requests whose reply was lost."""
        requests = set(self.asked_at.values())
        lost = {o for o, why in self.buried.items() if o in requests and "reply_undeliverable" in why}
        return sorted((o, w) for o, w in self.buried.items() if o not in self.bad and o not in lost)

    def stuck(self) -> list[Origin]:
        """Return good records in a wrong partition that were not sent on to the right one."""
        return sorted(self.misplaced - set(self.copies.values()) - self.bad)

    def unanswered(self) -> list[bytes]:
        """Return requests that got neither a reply nor a dead letter."""
        return sorted(i for i in self.asked if i not in self.answered and self.asked_at[i] not in self.buried)

    def unlabelled(self) -> list[Slot]:
        """Return slots that were shown and have no example."""
        return sorted(slot for slot in self._shown_slots() if slot not in self.slots)

    def labelled_twice(self) -> list[tuple[Slot, int]]:
        """Return slots with more than one example, and how many they have."""
        return sorted((slot, n) for slot, n in self.slots.items() if n > 1)

    def never_shown(self) -> list[Slot]:
        """Return slots with an example that no impression has."""
        return sorted(self.slots.keys() - set(self._shown_slots()))

    def unlogged(self) -> list[tuple[int, int, str, int]]:
        """Return examples that are not in the Parquet log."""
        return sorted(self.examples - self.logged)

    def waits_ms(self) -> list[int]:
        """Return how long each answered request waited for its first reply, ascending; not those in bulk."""
        urgent = self.asked.keys() - self.in_bulk
        return sorted(max(0, at - self.asked[i]) for i, at in self.answered.items() if i in urgent)

    def behind(self) -> list[tuple[bytes, str]]:
        """Return replies that neither have the state demanded nor say so; not those to users who left."""
        of = self.demands.of
        return [(i, why) for i, why in self.demands.behind if of[i][0].encode() not in self.forgotten]

    def errors(self) -> Counter[str]:
        """Return how many replies have each error."""
        return Counter(error.code for _, _, error in self.verdicts if error is not None)

    def _shown_slots(self) -> Iterable[Slot]:
        return ((*shown, position) for shown, n in self.shown.items() for position in range(n))

    def problems(self) -> list[str]:
        """Return a sentence about everything that must not be."""
        return [
            f"{len(which)} {what}, the first: {which[0]!r}"
            for what, which in (
                ("bad records are no dead letters", self.missing_letters()),
                ("dead letters are of good records", self.unexpected_letters()),
                ("records in a wrong partition were not sent on", self.stuck()),
                ("records were sent on to a wrong partition", self.astray),
                ("records of aborted transactions were read", self.aborted),
                ("requests got no reply", self.unanswered()),
                ("replies are not what their requests get", unstated(self.verdicts)),
                ("replies are behind the state demanded, and do not say so", self.behind()),
                ("slots were shown and never labelled", self.unlabelled()),
                ("slots were labelled more than once", self.labelled_twice()),
                ("examples are of slots that were never shown", self.never_shown()),
                ("examples are not in the Parquet log", self.unlogged()),
            )
            if which
        ]

    def figures(self) -> dict[str, Any]:
        """Return the numbers for the report."""
        waits = self.waits_ms()
        slots = set(self._shown_slots())
        return {
            "events": self.events,
            "sent_again": self.again,
            "bad_records": len(self.bad),
            "dead_letters": len(self.buried),
            "dead_letters_written": self.letters,
            "misplaced": len(self.misplaced),
            "sent_on": len(set(self.copies.values()) & self.misplaced),
            "sent_on_written": len(self.copies),
            "requests": len(self.asked.keys() - self.in_bulk),
            "answered": len(waits),
            "answered_in_2_s": sum(wait <= 2000 for wait in waits),
            "bulk_requests": len(self.in_bulk),
            "bulk_answered": len(self.in_bulk & self.answered.keys()),
            "unanswered": len(self.unanswered()),
            "replies": self.replies,
            "errors": dict(sorted(self.errors().items())),
            "states_demanded": len(self.demands.of),
            "states_reflected": self.demands.reflected,
            "states_from_elsewhere": self.demands.elsewhere,
            "states_not_yet": self.demands.not_yet,
            "states_unnamed": self.demands.unnamed,
            "shown": len(slots),
            "labelled": len(self.slots.keys() & slots),
            "labelled_twice": len(self.labelled_twice()),
            "examples": len(self.examples),
            "examples_logged": len(self.examples & self.logged),
            "labels": dict(sorted(self.labels.items())),
            "reply_p50_ms": waits[len(waits) // 2] if waits else None,
            "reply_max_ms": waits[-1] if waits else None,
        }
