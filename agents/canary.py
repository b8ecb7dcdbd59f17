"""canary: reads its replies; writes `events`, `items`, `rec-requests`; keeps the probes of the last while.

It measures how fresh lists are, from end to end, as a producer and a caller, all the time: from an event of a
user to the first reply that reflects it (``event``), from the publication of an item to the first list that
has it (``publish``), and from its withdrawal to the first list without it (``withdraw``). What it sends, and
why nobody else notices: ``serving/requests/canary.py``. Run one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal

import msgspec
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.wiring import Wiring
from headrace.serving.requests import canary
from headrace.serving.requests.client import RecClient
from headrace.streams.error_budget import ErrorBudget
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.metrics import Sample
from headrace.streams.topics import flow
from headrace.streams.topics.sender import partition_of

FLOW = flow.agent("canary")
log = logging.getLogger(__name__)

Probe = Literal["event", "publish", "withdraw"]
PROBES: Final[tuple[Probe, ...]] = ("event", "publish", "withdraw")
#: How a probe ends: within its limit, later, not within ``WAIT_S``; or it could not begin: that says nothing.
Outcome = Literal["within", "late", "missed", "unsent"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("within", "late", "missed", "unsent")

#: What is not reflected for so long was missed, s.
WAIT_S = 10.0
#: Pause between a reply and the next request of a probe, s.
POLL_S = 0.02
#: Longest wait for a reply, s; its deadline.
REPLY_S, DEADLINE_MS = 2.0, 1000
#: Pause between two attempts to begin, s.
AGAIN_S = 1.0


@dataclass(slots=True)
class Switch:
    """What the canary turns on and off: whether a user sees an item.

    Attributes
    ----------
    user_id, item_id
        Who looks, and for what.
    write
        Writes what turns it on, or off.
    wanted
        What was written last; None before, and when it may not have been written.
    """

    user_id: str
    item_id: str
    write: Callable[[bool], Awaitable[None]]
    wanted: bool | None = None


class Canary(Service):
    """Probes one partition after the other, and counts what it sees.

    Parameters
    ----------
    wiring
        Settings, producer, clock, metrics.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        s = wiring.settings
        self._client = RecClient(s, "canary", timeout_s=REPLY_S)
        publish_s = s.canary_publish_ms / 1000
        self._limits: dict[Probe, float] = {
            "event": s.canary_event_ms / 1000, "publish": publish_s, "withdraw": publish_s
        }  # fmt: skip
        self._budgets = {probe: ErrorBudget(s.canary_objective, s.canary_window_s) for probe in PROBES}
        self._tag, self._count = secrets.token_hex(6), count()
        users = canary.users(s.partitions, partition_of)
        self._users = [Switch(user, canary.SHOWN, self._acting(user)) for user in users]
        self._guest = Switch(users[0], canary.GUEST, self._publishing)
        self._ready = asyncio.Event()
        for probe in PROBES:
            for outcome in OUTCOMES:
                wiring.metrics.count("headrace_canary_probes_total", probe, outcome, by=0)
        wiring.metrics.read(self._samples)
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Canary"

    async def on_start(self) -> None:
        """Connect to the broker."""
        await self._client.start()

    async def on_stop(self) -> None:
        """Disconnect. The items stay: nobody sees them."""
        await self._client.stop()

    # -- measuring

    @Service.task
    async def _probe_events(self) -> None:
        await self._begin()
        while not self.should_stop:
            for user in self._users:
                await self.probe(user)
                await self.sleep(self._wiring.settings.canary_every_s)

    @Service.task
    async def _probe_items(self) -> None:
        await self._ready.wait()
        while not self.should_stop:
            await self.probe(self._guest)
            await self.sleep(self._wiring.settings.canary_publish_every_s)

    async def _begin(self) -> None:
        """Publish what stays, withdraw what a canary before this one has left; wait until lists say so."""
        while not self.should_stop:
            try:
                for name in (canary.CARRIER, canary.SHOWN, canary.WITNESS):
                    await self._put(name, there=True)
                await self._guest.write(False)
                if await self._until(self._guest, wanted=False) is not None:
                    break
            except (KafkaError, TimeoutError, HeadraceError) as exc:
                log.warning("the canary waits: %r", exc, extra={"action": "canary_waits"})
            await self.sleep(AGAIN_S)
        self._guest.wanted = False
        self._ready.set()

    def _kind(self, switch: Switch, *, wanted: bool) -> Probe:
        """Return what is measured when a switch is turned."""
        if switch is not self._guest:
            return "event"
        return "publish" if wanted else "withdraw"

    async def probe(self, switch: Switch) -> Outcome:
        """Turn a switch over and wait until a list shows it; count how it ends.

        A list that does not show yet what was written last is a probe that was missed; it is written again.
        So no probe is ended by what an earlier one wrote.

        Returns
        -------
        How it ended.
        """
        kind = self._kind(switch, wanted=not switch.wanted)
        try:
            before = await self._look(switch)
            if before is None:
                return self._ended(kind, None)
            if switch.wanted is not None and before != switch.wanted:
                kind = self._kind(switch, wanted=switch.wanted)
                await self._write(switch, wanted=switch.wanted)
                return self._ended(kind, None)
            kind = self._kind(switch, wanted=not before)
            began = self._wiring.clock.monotonic()
            await self._write(switch, wanted=not before)
            ended = await self._until(switch, wanted=not before)
        except (KafkaError, UnavailableError, TimeoutError) as exc:
            log.info("a probe was not sent: %r", exc, extra={"action": "canary_unsent"})
            self._wiring.metrics.count("headrace_canary_probes_total", kind, "unsent")
            return "unsent"
        return self._ended(kind, None if ended is None else ended - began)

    def _ended(self, kind: Probe, seconds: float | None) -> Outcome:
        """Count a probe that took so long; None: it was missed."""
        metrics = self._wiring.metrics
        self.note(kind, seconds)
        outcome: Outcome = "missed"
        if seconds is not None:
            metrics.observe("headrace_canary_seconds", seconds, kind)
            outcome = "within" if seconds <= self._limits[kind] else "late"
        metrics.count("headrace_canary_probes_total", kind, outcome)
        self._budgets[kind].note(self._wiring.clock.monotonic(), good=outcome == "within")
        if outcome != "within":
            log.warning("%s: %s", kind, outcome, extra={"action": "canary_bad", "seconds": seconds})
        return outcome

    def note(self, kind: Probe, seconds: float | None) -> None:
        """Do nothing; a subclass may keep how long each probe took."""

    async def _write(self, switch: Switch, *, wanted: bool) -> None:
        """Write what turns a switch; raise when the broker does not take it."""
        switch.wanted = None
        async with asyncio.timeout(WAIT_S):
            await switch.write(wanted)
        switch.wanted = wanted

    async def _until(self, switch: Switch, *, wanted: bool) -> float | None:
        """Return when the first reply came that shows it (monotonic s), None when none did in ``WAIT_S``."""
        until = self._wiring.clock.monotonic() + WAIT_S
        while not self.should_stop:
            seen = await self._look(switch)
            now = self._wiring.clock.monotonic()
            if seen is wanted:
                return now
            if now >= until:
                break
            await self._wiring.clock.sleep(POLL_S)
        return None

    async def _look(self, switch: Switch) -> bool | None:
        """Return whether a list has the item; None when there is no reply, or it does not tell."""
        name = f"{canary.RESERVED}-{self._tag}-{next(self._count)}"
        try:
            reply = await self._client.recommend(canary.request(name, switch.user_id, DEADLINE_MS))
        except UnavailableError:
            raise
        except (TimeoutError, HeadraceError):
            return None
        return canary.sees(reply, switch.item_id)

    # -- writing

    def _acting(self, user_id: str) -> Callable[[bool], Awaitable[None]]:
        async def write(wanted: bool) -> None:
            w = self._wiring
            event = canary.act(
                f"{canary.RESERVED}-{secrets.token_hex(8)}", user_id, w.clock.now_ms(), wanted=wanted
            )
            await w.sender.send_keyed(
                w.topics.events, [(user_id.encode(), msgspec.json.encode(event), None, [])]
            )

        return write

    async def _publishing(self, wanted: bool) -> None:
        await self._put(canary.GUEST, there=wanted)

    async def _put(self, name: str, *, there: bool) -> None:
        value = msgspec.json.encode(canary.item(name)) if there else None
        await self._wiring.sender.send_keyed(self._wiring.topics.items, [(name.encode(), value, None, [])])

    # -- telling

    def _samples(self) -> Iterator[Sample]:
        now, objective = self._wiring.clock.monotonic(), self._wiring.settings.canary_objective
        for probe, budget in self._budgets.items():
            yield Sample("headrace_canary_objective_ratio", objective, (probe,))
            good, left = budget.good(now), budget.left(now)
            if good is not None and left is not None:
                yield Sample("headrace_canary_within_ratio", good, (probe,))
                yield Sample("headrace_canary_budget_left_ratio", left, (probe,))
