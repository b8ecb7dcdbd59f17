"""After the run: a topic is deleted and made again, or loses its last records; then there is traffic again.

What was counted before cannot be computed from the topics any more. So every count is compared with what it
was before, and what the new records add; the audit reads the new records alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from chaos_audit import Offsets, audit, ends_of, reply_topics
from chaos_counts import added, differences, live_counts
from chaos_log import Log
from chaos_servers import Servers
from chaos_shape import After
from chaos_traffic import Traffic
from chaos_verdict import Verdict

from headrace.streams.errors import HeadraceError
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics

#: Number of events after a disturbance, and the time in which they are sent.
EVENTS, SECONDS = 2000, 4.0
#: Bytes cut off at the end of a partition: at least its last batch is lost.
CUT = 3000
#: Longest wait until a topic is gone, or made again.
AGAIN_S = 30.0

NAMES: dict[After, tuple[str, str]] = {
    "events-again": ("events", "again"),
    "impressions-again": ("impressions", "again"),
    "item-events-again": ("item_events", "again"),
    "examples-again": ("examples", "again"),
    "events-tail": ("events", "tail"),
    "impressions-tail": ("impressions", "tail"),
    "user-state-tail": ("user_state", "tail"),
}


class Afterwards:
    """Disturbs topics when everything has been processed, and checks what comes then."""

    def __init__(
        self, settings: Settings, servers: Servers, traffic: Traffic, verdict: Verdict, log: Log
    ) -> None:
        self._settings, self._servers, self._traffic = settings, servers, traffic
        self._verdict, self._log = verdict, log
        topics = Topics(settings)
        self._public = [
            topics.events, topics.users, topics.items, topics.requests, topics.bulk_requests,
            *reply_topics(settings), topics.dead_letters, topics.impressions, topics.examples,
        ]  # fmt: skip

    async def run(self, name: After) -> None:
        """Disturb a topic, send events and requests, and compare."""
        attribute, how = NAMES[name]
        topic = getattr(Topics(self._settings), attribute)
        began = time.monotonic()
        before = await live_counts(self._settings)
        do: Callable[[str], Awaitable[None]] = self._make_again if how == "again" else self._cut
        await do(topic)
        since = await ends_of(self._settings, self._public)
        await self._traffic.after(EVENTS, SECONDS)
        problems = await self._verdict.until_caught_up()
        problems += await self._compare(before, since)
        self._log.problems.extend(f"after {name}: {problem}" for problem in problems)
        self._log.figures.setdefault("afterwards", {})[name] = round(time.monotonic() - began, 1)
        self._log.tell(f"after      {name}: {problems or 'all is well'}", style="blue")

    async def _compare(self, before: dict[tuple[str, int, str], int], since: Offsets) -> list[str]:
        """Return the problems with the records since, and with the counts."""
        found = await audit(self._settings, since)
        new, after = await added(self._settings, since), await live_counts(self._settings)
        wrong = differences(before, new, after)
        out = found.problems()
        if not found.shown or len(new) < EVENTS / 10:
            out.append(f"only {len(found.shown)} impressions and {len(new)} new counts: nothing to compare")
        if wrong:
            by = Counter(line.partition(" ")[0] for line in wrong)
            out.append(
                f"{len(wrong)} counts are wrong, of {dict(by)}, the first and last: {wrong[0]}; {wrong[-1]}"
            )
        return out

    async def _make_again(self, topic: str) -> None:
        self._log.tell(f"delete     topic {topic}, and make it again", style="bold red")
        admin = AIOKafkaAdminClient(**connection(self._settings))
        await admin.start()
        try:
            await admin.delete_topics([topic])
            deadline = time.monotonic() + AGAIN_S
            # A busy broker goes on serving the deleted topic for a while.
            while topic in await admin.list_topics():
                assert time.monotonic() < deadline, f"{topic} is not deleted"
                await asyncio.sleep(0.05)
        finally:
            await admin.close()
        while time.monotonic() < deadline:
            with contextlib.suppress(HeadraceError, KafkaError):  # it is still being deleted
                if topic in await create_topics(self._settings):
                    return
            await asyncio.sleep(0.5)
        self._log.problems.append(f"{topic} could not be made again")

    async def _cut(self, topic: str) -> None:
        """Kill the broker and remove the last bytes of half of the partitions, as a power cut may do."""
        partitions = [TopicPartition(topic, p) for p in range(self._settings.partitions // 2)]
        had = await ends_of(self._settings, [topic])
        self._log.tell(f"kill       broker; it loses the last records of {topic}", style="bold red")
        kafka = self._servers.kafka
        await self._servers.call(kafka, "kill")
        for tp in partitions:
            kafka.cut(tp.topic, tp.partition, CUT)
        await self._servers.call(kafka, "start")
        have = await ends_of(self._settings, [topic])
        lost = {tp: had[tp] - have[tp] for tp in partitions}
        self._log.tell(f"broker is back; lost: {sorted(lost.values())} records", style="bold green")
        if not all(n > 0 for n in lost.values()):
            self._log.problems.append(f"the broker lost nothing of {topic}: {lost}")
