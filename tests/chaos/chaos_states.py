"""What callers demand of replies (``at_least``), and whether the replies have it. Pure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from chaos_strangers import expected_partition

from headrace.streams.messages.state import Mark, marks_of

#: topic, partition, offset
Origin = tuple[str, int, int]

#: Errors that ask a caller for patience: nothing is wrong with its request.
PATIENT = frozenset({"rate_limited", "overloaded"})
#: Shares of the requests that demand the state of an earlier reply, and that of an event just written.
OF_REPLY, OF_EVENT = 0.25, 0.2
#: Share of these events that are written to a wrong partition.
ELSEWHERE = 0.35
#: So long, s, after the log of a topic was numbered anew, workers may name records by their old numbers.
OLD_NUMBERS_S = 5.0


class States:
    """The tokens that callers have of users: those of the last replies."""

    def __init__(self, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rng = random.Random(f"states-{seed}")
        self._clock, self._from = clock, float("-inf")
        self._of: dict[int, str] = {}
        self._of_events = True

    def seen(self, user: int, token: str) -> None:
        """Note the state of a reply to a request for a user. Tokens that name no record are left out."""
        if token and self._clock() >= self._from and marks_of(token):
            self._of[user] = token

    def made_again(self) -> None:
        """Forget all tokens: those from before a topic was made again, or lost its end, mean nothing.

        For some seconds, no new ones are noted, either: a worker that has not heard of it names records by
        the numbers of the log before. From now on no state of a new event is demanded.
        """
        self._from = self._clock() + OLD_NUMBERS_S
        self._of.clear()
        self._of_events = False

    def one(self) -> tuple[int, str] | None:
        """Return a user and the token of the last reply, None while there is none."""
        return self._rng.choice(list(self._of.items())) if self._of else None

    def demand(self) -> str:
        """Return what the next request demands: the state of a ``reply``, of an ``event``, or nothing."""
        dice = self._rng.random()
        if dice < OF_REPLY:
            return "reply"
        return "event" if self._of_events and dice < OF_REPLY + OF_EVENT else ""

    def partition(self, key: bytes, partitions: int) -> int:
        """Return the partition that an event is written to, now and then a wrong one."""
        right = expected_partition(key, partitions)
        if self._rng.random() >= ELSEWHERE:
            return right
        return (right + self._rng.randrange(1, partitions)) % partitions


class Wanted(msgspec.Struct):
    """What is looked at of a request."""

    user_id: str = ""
    at_least: str = ""


class Stated(msgspec.Struct):
    """What is looked at of an error."""

    code: str = ""
    retry_after_ms: int = 0


class Got(msgspec.Struct):
    """What is looked at of a reply."""

    state: str = ""
    degraded: list[str] = []
    error: Stated | None = None


@dataclass(slots=True)
class Demands:
    """The states that requests demanded, and what became of them.

    Attributes
    ----------
    of
        Correlation id -> user and records that the request demands.
    reflected, elsewhere
        Number of replies that have what was demanded; of those whose record was in a wrong partition.
    not_yet, unnamed
        Number that say that they have not; that say that the history may be missing, and name nothing.
    behind
        Replies that do neither: correlation id and what is wrong.
    """

    of: dict[bytes, tuple[str, list[Mark]]] = field(default_factory=dict)
    reflected: int = 0
    elsewhere: int = 0
    not_yet: int = 0
    unnamed: int = 0
    behind: list[tuple[bytes, str]] = field(default_factory=list)

    def ask(self, correlation_id: bytes, body: bytes) -> None:
        """Note a good request."""
        wanted = msgspec.json.decode(body, type=Wanted)
        if wanted.at_least:
            self.of[correlation_id] = wanted.user_id, marks_of(wanted.at_least)

    def answer(
        self,
        correlation_id: bytes,
        reply: Got,
        partitions: int,
        firsts: Mapping[Origin, Origin],
        events: str,
    ) -> None:
        """Compare a reply with what its request demands.

        Parameters
        ----------
        partitions
            Of the topics.
        firsts
            Of `events`, see ``first_places``.
        events
            Name of the topic.
        """
        user, marks = self.of.get(correlation_id, ("", []))
        if not marks or reply.error is not None:
            return
        if "state" in reply.degraded:
            self.not_yet += 1
            return
        own = expected_partition(user.encode(), partitions)
        has = {(mark.source, mark.partition): mark.offset for mark in marks_of(reply.state)}
        if not has and "user" in reply.degraded:
            self.unnamed += 1
            return
        for mark in marks:
            place = firsts.get((events, mark.partition, mark.offset)) if mark.source == "events" else None
            if place is None and mark.partition != own:
                continue  # it was sent on nowhere: this is found, too
            wanted = mark.offset if place is None else place[2]
            if has.get((mark.source, own), -1) < wanted:
                self.behind.append(
                    (correlation_id, f"{user} {mark} as {wanted}, but {reply.state} {reply.degraded}")
                )
                return
        self.reflected += 1
        self.elsewhere += any(mark.partition != own for mark in marks)

    def unmet(self) -> list[str]:
        """Return what is wrong when nothing was checked."""
        return [] if self.reflected else ["no reply had the state that its request demanded"]


def first_places(
    events: Mapping[tuple[str, str], Iterable[Origin]], copies: Mapping[Origin, Origin], partitions: int
) -> dict[Origin, Origin]:
    """Return place of a record of `events` -> the first place of its event in the partition of its user.

    A record of an event that was there before changes no row: a reply with the first one has it, too.
    Producers write records again whose acknowledgement they missed.

    Parameters
    ----------
    events
        User and id of an event -> where it is.
    copies
        Place of a record that was sent on to the right partition -> where it was first.
    """
    firsts = {}
    for (user, _), places in events.items():
        right = expected_partition(user.encode(), partitions)
        there = [place for place in places if place[1] == right]
        if there:
            first = min(there)
            of = [*places, *(copies[place] for place in there if place in copies)]
            firsts.update(dict.fromkeys(of, first))
    return firsts


def unstated(errors: Iterable[tuple[bytes, bool, Stated | None]]) -> list[tuple[bytes, str]]:
    """Return what is wrong with replies, given as id, whether the request was bad, and its error.

    A bad request gets an error that says why. A good one gets a list, or an error that says when to try
    again.
    """
    wrong = []
    for name, bad, error in errors:
        if error is None:
            if bad:
                wrong.append((name, "a bad request got no error"))
        elif not error.code:
            wrong.append((name, "an error without a code"))
        elif error.code in PATIENT:
            if error.retry_after_ms <= 0:
                wrong.append((name, f"{error.code} does not say when to try again"))
        elif not bad:
            wrong.append((name, f"a good request got {error.code}"))
    return wrong
