"""The simulated audience: visits, the lists shown, the events of the users, and the click rates.

Pure: the time is passed in, randomness is seeded, nothing is sent. Users are split by a hash of their id. The
control group sees the popular list, all others see the replies of Headrace. Both groups click by the same
formula (``formula.py``).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.demo.simulation.audience import Audience
from headrace.demo.simulation.catalog import SimulatedCatalog
from headrace.demo.simulation.fatigue import Fatigue
from headrace.demo.simulation.formula import appeal, examination, sigmoid, taste
from headrace.demo.simulation.popularity import Popularity
from headrace.demo.simulation.tally import Tally
from headrace.demo.simulation.truth import best_items, expected_clicks
from headrace.demo.simulation.vocabulary import CATEGORIES, COUNTRIES, DEVICES
from headrace.demo.simulation.world import WorldSpec, creator_id
from headrace.streams.messages.schemas import (
    Context,
    Event,
    EventType,
    Item,
    RecRequest,
    Surface,
    UserProfile,
)
from headrace.streams.settings import MINUTE_MS

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Time (ms) from one slot to the next, and from a click to its dwell event. Much shorter than real ones, so
#: that a demo of a minute has outcomes.
SLOT_MS, READ_MS = 40, 600
#: Chance of a skip event for a slot that the user looked at and did not click.
SKIP_REPORTED = 0.5
#: Chance that a bot clicks an item.
BOT_CLICKS = 0.3
#: Visits of each known user before the start, so that there are features, and the time (ms) they spread over.
PAST_VISITS, PAST_MS = 3, 10 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Visit:
    """A user who asks for a list now. ``control``: they are shown the popular list."""

    user: int
    control: bool
    request: RecRequest


class Simulator:
    """The catalogue, the audience, and what users do.

    Parameters
    ----------
    spec
        Size, habits and seed.
    now
        Time of the start, ms since the epoch.
    """

    def __init__(self, spec: WorldSpec, now: int) -> None:
        self.spec = spec
        self._rng = np.random.default_rng(spec.seed)
        self.audience = Audience(spec, self._rng)
        self.catalog = SimulatedCatalog(spec, self._rng)
        self.popularity = Popularity()
        self.tally = Tally()
        self._read: dict[int, set[int]] = {}  # items each user has clicked: no user clicks an item twice
        self._fatigue = Fatigue()
        self._bots = np.random.default_rng([spec.seed, 3])
        self._latest: dict[int, int] = {}  # the item each user clicked last
        self._number = 0
        self._start = now
        self._published_until = now
        #: Below 1 there are fewer sessions with longer pauses.
        self.pace = 1.0
        self._sessions: list[tuple[int, int, int]] = []  # heap of (next visit ms, tie-break, user)
        self._next_session = float(now)

    # --- before the start ---

    def starting_items(self) -> list[Item]:
        """Return the items of the start, oldest first. Call it once, before anything else."""
        ages = self._rng.integers(0, self.spec.spread_ms, self.spec.items)
        return self.catalog.publish(np.sort(self._start - ages))

    def profiles(self) -> list[UserProfile]:
        """Return the profiles of the known users; the other users have none."""
        return [self.audience.profile(int(u), self._rng) for u in np.flatnonzero(self.audience.known)]

    def past(self) -> list[Event]:
        """Return the events of known users in the minutes before the start, in order of time.

        The users found the items by chance or because they were popular, not in lists.
        """
        users = np.flatnonzero(self.audience.known)
        activity = self.audience.activity[users]
        visits = self._rng.choice(users, len(users) * PAST_VISITS, p=activity / activity.sum())
        times = np.sort(self._rng.integers(self._start - PAST_MS, self._start - 2000, len(visits)))
        out: list[Event] = []
        for user, ts in zip(visits.tolist(), times.tolist(), strict=True):
            items = self._rng.choice(self.catalog.size, 12, replace=False)
            popular = self.popularity.top(60, ts)
            if popular:
                items[:4] = self._rng.choice(popular, 4)
            # Twice the chance of a click on a list: users search for items that they like.
            wanted = self._rng.random(len(items)) < 2 * appeal(self.audience, self.catalog, user, items, ts)
            read = self._read.setdefault(user, set())
            for item in items[wanted].tolist():
                if item not in read:
                    out.extend(self._click(user, item, ts, "", None, None))
        out.sort(key=lambda e: e.ts)
        return out

    # --- while it runs ---

    def new_items(self, now: int) -> list[Item]:
        """Return the items published since the last call."""
        due = int((now - self._start) * self.spec.new_items_per_s / 1000) - (
            int((self._published_until - self._start) * self.spec.new_items_per_s / 1000)
        )
        self._published_until = max(now, self._published_until)
        return self.catalog.publish(np.full(due, now)) if due > 0 else []

    def begin(self, now: int) -> None:
        """Begin the visits with the average number of open sessions."""
        spec = self.spec
        self._next_session = float(now)
        for _ in range(round(spec.visits_per_s * spec.think_ms / 1000)):
            self._open_session(now + int(self._rng.integers(0, spec.think_ms)))

    def visits(self, now: int, limit: int = 1000) -> list[Visit]:
        """Return the visits due by ``now`` (ms), in order of time, at most ``limit``."""
        gap = 1000 * self.spec.visits_a_session / (self.spec.visits_per_s * self.pace)
        self.audience.drift(now - self._start)
        while self._next_session <= now:
            self._open_session(int(self._next_session))
            self._next_session += float(self._rng.exponential(gap))
        out: list[Visit] = []
        while self._sessions and self._sessions[0][0] <= now and len(out) < limit:
            _, _, user = heapq.heappop(self._sessions)
            out.append(self._visit(user, now))
        return out

    def go_on(self, visit: Visit, now: int) -> None:
        """Let the user come back after a pause, or end the session. Call it after every visit."""
        # Every visit is the last one with the same chance, so the first sessions are as long as later ones.
        if self._rng.random() >= 1 / self.spec.visits_a_session:
            pause = 400 + self._rng.exponential(self.spec.think_ms - 400)
            self._push_session(now + int(pause / self.pace), visit.user)

    def _open_session(self, ts: int) -> None:
        self._push_session(ts, int(self._rng.choice(self.spec.users, p=self.audience.activity)))

    def _push_session(self, ts: int, user: int) -> None:
        self._number += 1
        heapq.heappush(self._sessions, (ts, self._number, user))

    def _visit(self, user: int, now: int) -> Visit:
        self._number += 1
        last = self._latest.get(user)
        surface: Surface = "home"
        if last is not None and self._rng.random() < 0.1:
            surface = "related"
        request = RecRequest(
            request_id=f"demo-{self._start}-{self._number}",
            user_id=self.audience.ids[user],
            surface=surface,
            n=self.spec.n,
            item_id=self.catalog.ids[last] if surface == "related" and last is not None else "",
            context=self._context(user, now),
            deadline_ms=self.spec.deadline_ms,
        )
        return Visit(user, bool(self.audience.control[user]), request)

    def _context(self, user: int, ts: int | None = None) -> Context:
        return Context(
            country=COUNTRIES[int(self.audience.country[user])],
            device=DEVICES[int(self.audience.device[user])],
            ts=ts,
            age=int(self.audience.age[user]),
        )

    def popular(self, visit: Visit, now: int) -> list[str]:
        """Return the popular list: most clicks in the last hour first, without items this user has read."""
        read = self._read.get(visit.user, set())
        top = [i for i in self.popularity.top(visit.request.n + 80, now) if i not in read]
        return [self.catalog.ids[i] for i in top[: visit.request.n]]

    def look(self, visit: Visit, item_ids: list[str], now: int) -> list[Event]:
        """Let the user look through a list and count its clicks; return the events, in order of time.

        Events about a reply of Headrace carry its request id; events about the popular list carry none.
        """
        items = self.catalog.index(item_ids)
        looked, wanted = self._reaction(visit.user, items, now)
        skipped = self._rng.random(len(items)) < SKIP_REPORTED
        request_id = "" if visit.control else visit.request.request_id
        out: list[Event] = []
        new = items >= self.spec.items
        clicked, new_clicked, passed = 0, 0, []
        for position in np.flatnonzero(looked & (items >= 0)).tolist():
            item, ts = int(items[position]), now + SLOT_MS * position
            if wanted[position] and item not in self._read.get(visit.user, ()):
                clicked += 1
                new_clicked += bool(new[position])
                out.extend(self._click(visit.user, item, ts, request_id, position, visit.request.surface))
                continue
            passed.append(item)
            if skipped[position]:
                out.append(
                    self._event("skip", visit.user, item, ts, request_id, position, visit.request.surface)
                )
        out.sort(key=lambda e: e.ts)
        self._fatigue.looked(visit.user, passed)
        if not self.audience.bots[visit.user]:
            self.tally.add(visit.control, now, len(item_ids), clicked, int(new.sum()), new_clicked)
        return out

    def _reaction(self, user: int, items: I64, now: int) -> tuple[Bool, Bool]:
        """Return which slots a user looks at, and which items they want, bool ``(n,)`` each."""
        if self.audience.bots[user]:
            return np.ones(len(items), bool), self._bots.random(len(items)) < BOT_CLICKS
        known = items >= 0
        p = np.zeros(len(items))
        lost = self._fatigue.lost(user, items[known])
        p[known] = appeal(self.audience, self.catalog, user, items[known], now, lost)
        looked = self._rng.random(len(items)) < examination(np.arange(len(items)))
        return looked, self._rng.random(len(items)) < p

    # --- the truth, which no recommender sees ---

    def best_list(self, user: int, now: int, n: int) -> list[str]:
        """Return the list of ``n`` items with the most expected clicks of a user at ``now`` (ms)."""
        return [self.catalog.ids[i] for i in best_items(self.worth(user, now), n).tolist()]

    def expected(self, user: int, item_ids: list[str], now: int) -> float:
        """Return the expected clicks of a user on a list that is shown at ``now`` (ms)."""
        return expected_clicks(self.catalog.index(item_ids), self.worth(user, now))

    def judge(self, visit: Visit, item_ids: list[str], now: int) -> None:
        """Count what a list is worth beside the best one of its length. Call it before ``look``."""
        if not self.audience.bots[visit.user]:
            worth = self.worth(visit.user, now)
            got = expected_clicks(self.catalog.index(item_ids), worth)
            best = expected_clicks(best_items(worth, len(item_ids)), worth)
            self.tally.judge(visit.control, now, got, best)

    def worth(self, user: int, now: int) -> F64:
        """Return the chance of a click on every item once the user looks at it; 0 for what was read."""
        size = self.catalog.size
        lost = self._fatigue.lost_everywhere(user, size)
        out = appeal(self.audience, self.catalog, user, np.arange(size), now, lost)
        out[list(self._read.get(user, ()))] = 0.0
        return out

    def _click(
        self, user: int, item: int, ts: int, request_id: str, position: int | None, surface: Surface | None
    ) -> list[Event]:
        """Return the events of a click: the click, the dwell, perhaps a like or a save, perhaps a follow."""
        self._read.setdefault(user, set()).add(item)
        self._latest[user] = item
        self.popularity.add(item, ts)
        about = (request_id, position, surface)
        liking = float(
            taste(self.audience, self.catalog, user, np.array([item]))[0] + self.catalog.quality[item]
        )
        out = [self._event("click", user, item, ts, *about)]
        dwell_ms = int(min(600_000, self._rng.lognormal(9.3 + 0.45 * liking, 0.6)))
        out.append(self._event("dwell", user, item, ts + READ_MS, *about, dwell_ms=dwell_ms))
        moved = float(sigmoid(np.array([1.2 * liking - 4.5]))[0])
        if self._rng.random() < moved:
            kind: EventType = "like" if self._rng.random() < 0.6 else "save"
            out.append(self._event(kind, user, item, ts + READ_MS, *about))
            if self.catalog.creator[item] in self.audience.creators[user] and self._rng.random() < 0.5:
                out.append(self._event("follow", user, item, ts + READ_MS, *about))
        return out

    def _event(
        self,
        kind: EventType,
        user: int,
        item: int,
        ts: int,
        request_id: str,
        position: int | None,
        surface: Surface | None,
        dwell_ms: int | None = None,
    ) -> Event:
        self._number += 1
        return Event(
            event_id=f"sim-{self._start}-{self._number}",
            type=kind,
            user_id=self.audience.ids[user],
            item_id=self.catalog.ids[item],
            ts=ts,
            dwell_ms=dwell_ms,
            request_id=request_id,
            position=position,
            surface=surface,
            context=self._context(user),
        )

    def clicks_of(self, user: int) -> int:
        """Return how many items a user has clicked."""
        return len(self._read.get(user, ()))

    def regular(self) -> int:
        """Return the user outside the control group who has clicked most, no bot."""
        left_out = self.audience.control | self.audience.bots
        ours = (u for u in self._read if not left_out[u])
        return max(ours, key=lambda u: (len(self._read[u]), -u), default=0)

    def describe(self, user: int) -> str:
        """Return the hidden tastes of a user as a sentence, for the screen."""
        a = self.audience
        liked = ", ".join(CATEGORIES[int(c)] for c in a.liked[user, : int(a.liked_count[user])])
        creators = ", ".join(creator_id(int(c)) for c in a.creators[user])
        country = COUNTRIES[int(a.country[user])]
        return f"{a.ids[user]} in {country} secretly likes {liked}; reads {creators}"
