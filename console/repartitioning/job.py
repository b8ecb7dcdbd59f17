"""``headrace repartition``: makes the partitions of a stopped installation more, and keeps every count.

The steps, in this order. Each does nothing where it was done before, so a run that was killed is run again::

    1  look       no worker runs, all that must be is counted, rows and places fit      changes nothing
    2  copy       the changelogs, with the new partitions, into topics of their own
    3  close      item-events grows: no worker starts any more, with either number
    4  make anew  each changelog, of its copy
    5  grow       the other topics; the last record of each moved key of users and items is carried over
    6  refill     the marks in the online store go back: the workers write all rows there again
    7  open       dead-letters grows last: workers with the new number start

Until the end of step 2 workers with the old number may be started again, and the copies are made anew then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from aiokafka.errors import KafkaError

from headrace.console.repartitioning import staging
from headrace.console.repartitioning.broker import Broker, broker_of, known, number_of, sender_of
from headrace.console.repartitioning.carried import carry, sent_on_waiting
from headrace.console.repartitioning.plan import Found, Largest, NotReadyError, Plan, check_numbers
from headrace.console.repartitioning.tables import (
    ALONE,
    EXPIRED,
    HOMELESS,
    Homes,
    Table,
    read_table,
    rows_of,
    tables_of,
)
from headrace.console.repartitioning.waiting import Waiting, cut_off
from headrace.console.upgrading.offline import check_stopped
from headrace.console.verification.grown import growths_of
from headrace.serving.store.opened import open_store
from headrace.serving.store.protocol import Kind
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics import flow
from headrace.streams.topics.growths import Growth, staging_of
from headrace.streams.topics.names import Topics
from headrace.streams.topics.refusal import unavailable
from headrace.streams.topics.sender import BatchSender

#: Longest wait for one answer of the online store: no request waits for it.
STORE_TIMEOUT_S = 10.0


@dataclass
class Repartitioned:
    """What was done, or would be. The fields are the keys of the JSON.

    Attributes
    ----------
    old, new
        Number of partitions before and after.
    rows, moving
        Rows of each changelog, and how many of them go to a new partition. Empty when that was done before.
    expired
        Rows of what users were shown that are past their time to live, and whose user has no row any more:
        they are left out.
    carried
        Records of `users` and `items` that were carried over.
    interrupted
        Whether an earlier run had begun to change topics, so that this one goes on, or would.
    faults
        Why it cannot be done now.
    """

    old: int = 0
    new: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    moving: dict[str, int] = field(default_factory=dict)
    expired: int = 0
    carried: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    faults: list[str] = field(default_factory=list)


async def repartition(
    settings: Settings, new: int, say: Callable[[str], None], *, dry: bool = False
) -> Repartitioned:
    """Make ``new`` partitions of an installation; with ``dry`` only look whether that can be done.

    Parameters
    ----------
    say
        Called with the progress.

    Raises
    ------
    ConfigError
        ``new`` is not a multiple of the present number.
    StillRunningError
        A worker runs.
    NotReadyError
        Something must be read first. Nothing was changed, or the message says what was.
    UnavailableError
        Broker or online store do not answer, or the broker refuses something.
    """
    try:
        async with broker_of(settings) as broker:
            return await _Job(settings, broker, new, say).run(dry=dry)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc


class _Job:
    def __init__(self, settings: Settings, broker: Broker, new: int, say: Callable[[str], None]) -> None:
        self._broker, self._say = broker, say
        self._topics = Topics(settings)
        self._tables = {table.topic: table for table in tables_of(self._topics)}
        self._out = Repartitioned(new=new)
        self._settings = settings.model_copy(update={"partitions": new})
        self._specs = {spec.name: spec for spec in self._topics.specs(self._settings)}

    async def run(self, *, dry: bool) -> Repartitioned:
        """Do all steps, or only look."""
        out, t = self._out, self._topics
        counts = await self._broker.counts()
        out.old = number_of(counts, t.dead_letters)
        check_numbers(out.old, out.new)
        if out.old == out.new:
            return out
        if (grown := number_of(counts, t.item_events)) not in (out.old, out.new):
            raise NotReadyError(
                f"partitions were being made {grown}, and that was interrupted: finish it first, "
                f"with: headrace repartition {grown}"
            )
        await self._check_stopped()
        store = open_store(self._settings, STORE_TIMEOUT_S, STORE_TIMEOUT_S)
        try:
            await self._marks(store, reset=False)  # it must answer before anything is changed
            begun = await self._begun(counts)
            out.interrupted = begun or grown == out.new
            if out.interrupted:
                self._say(f"an earlier run was interrupted: this one {'would go' if dry else 'goes'} on")
            if not begun and (dry or not await self._fresh()):
                await self._copy(dry=dry)
            if not dry:
                if not begun:
                    await self._close()
                async with sender_of(self._settings) as sender:
                    await self._finish(sender, store)
        finally:
            await store.close()
        return out

    # -- looking and copying

    async def _begun(self, counts: Mapping[str, int]) -> bool:
        """Return whether an earlier run has come so far that only its copies of the changelogs count.

        Raises
        ------
        NotReadyError
            A changelog is not as it was, and no run of this command has changed it.
        """
        users = self._topics.user_state
        if staging_of(users) in counts:
            if (await staging.read_marks(self._settings, self._topics)).closed:
                return True
        elif counts.get(users) == self._out.new:
            grown = (await growths_of(self._settings)).all
            if grown and grown[-1].new == self._out.new:
                return True
        changed = [topic for topic in self._tables if counts.get(topic) != self._out.old]
        if changed:
            raise NotReadyError(
                f"{', '.join(changed)}: missing, or not with {self._out.old} partitions, and there is no "
                "complete copy: another command has changed it"
            )
        return False

    async def _check_stopped(self) -> None:
        await check_stopped(self._settings, list(flow.group_reads()))

    async def _fresh(self) -> bool:
        """Return whether there are complete copies of the logs as they are now."""
        counts = await self._broker.counts()
        if any(counts.get(staging_of(topic)) != self._out.new for topic in self._tables):
            return False
        marks = await staging.read_marks(self._settings, self._topics)
        return marks.made_of == await staging.ends_of(self._settings, self._topics)

    async def _copy(self, *, dry: bool) -> None:
        if self._settings.wrong_partition == "refuse":
            raise NotReadyError(
                "HEADRACE_WRONG_PARTITION is refuse: events of producers that do not know the new partitions "
                "yet would become dead letters. Set it to forward, for all workers, and try again"
            )
        ends = await staging.ends_of(self._settings, self._topics)
        plan = await self._plan()
        if dry:
            return
        await self._refuse(self._out.faults)
        async with sender_of(self._settings) as sender:
            await self._stage(sender, plan)
            await staging.mark(sender, self._topics, staging.COMPLETE, ends)
        self._say("all rows are copied")

    async def _close(self) -> None:
        """Grow the first topic: from now on no worker starts. Make sure that none has run meanwhile."""
        await self._check_stopped()
        await self._refuse(await self._broker.refused(self._needs()))
        if not await self._fresh():
            raise NotReadyError("a worker has run meanwhile: stop all workers, and try again")
        await self._check_drained()
        await self._broker.grow(self._topics.item_events, self._out.new)
        self._say("no worker starts from now on, until this has ended")
        await self._check_stopped()
        if not await self._fresh():
            await self._copy(dry=False)
        await self._check_stopped()
        await self._check_drained()
        ends = await staging.ends_of(self._settings, self._topics)
        async with sender_of(self._settings) as sender:
            await staging.mark(sender, self._topics, staging.CLOSED, ends)

    async def _check_drained(self) -> None:
        waiting = Waiting(self._settings)
        await waiting.look()
        await self._refuse(waiting.not_drained())

    async def _refuse(self, faults: Sequence[str]) -> None:
        """Raise ``NotReadyError`` with faults, if there are any, and with what was changed before."""
        if not faults:
            return
        item_events = self._topics.item_events
        if (await self._broker.counts()).get(item_events) != self._out.new:
            raise NotReadyError("; ".join(faults))
        raise NotReadyError(
            f"{'; '.join(faults)}. But {item_events} has {self._out.new} partitions already, so no worker "
            "starts: go back first (docs/operator.md, Growing partitions: Going back)"
        )

    def _needs(self) -> dict[str, list[str]]:
        """Return the topics that are deleted, changed or asked for their settings, by operation."""
        copies = [staging_of(topic) for topic in self._tables]
        return {
            "Delete": [*self._tables, *copies],
            "Alter": [name for name, spec in self._specs.items() if spec.partitions == self._out.new],
            "DescribeConfigs": [*self._tables, *copies],
        }

    async def _plan(self) -> Plan:
        """Look at everything; note what stands in the way."""
        waiting, out = Waiting(self._settings), self._out
        await waiting.look()
        out.faults += waiting.not_drained()
        out.faults += cut_off(self._settings)
        out.faults += await self._broker.refused(self._needs())
        found = await self._found()
        plan = Plan(self._topics, out.old, out.new, found, waiting.read_from())
        out.rows, out.moving, out.expired = found.rows, found.moving, found.expired
        out.faults += waiting.behind(plan.growth.cuts)
        out.faults += plan.faults()
        for topic in (self._topics.events, self._topics.users, self._topics.items):
            if count := await sent_on_waiting(self._settings, topic, plan.growth.cuts[topic]):
                out.faults.append(
                    f"{count} records of {topic} that were sent on to their partition are not read yet: "
                    "start ingest until it has read them"
                )
        return plan

    async def _found(self) -> Found:
        found, out = Found(), self._out
        now, ttl_ms = now_ms(), self._settings.state_ttl_s * 1000
        for number in range(out.old):
            homes, largest = Homes(out.new, now, ttl_ms), Largest()
            for table in self._tables.values():
                part = await read_table(self._settings, table, number)
                if table.topic == self._topics.user_state:
                    homes.learn(part)
                    found.users.append(dict(part.meta))
                elif table.topic == self._topics.item_features:
                    found.items.append(dict(part.meta))
                for _, rows in rows_of(part):
                    self._look(table, homes, rows, number, found)
                    self._note(table, rows, largest)
                self._say(f"{table.topic}-{number} read: {len(part.rows) + part.evicted_count:,} rows")
            found.largest.append(largest)
        return found

    def _look(self, table: Table, homes: Homes, rows: Any, number: int, found: Found) -> None:
        to = homes.of(table, self._topics, rows)
        topic = table.topic
        found.rows[topic] = found.rows.get(topic, 0) + len(rows)
        moving = int(np.count_nonzero((to >= 0) & (to != number)))
        found.moving[topic] = found.moving.get(topic, 0) + moving
        if topic == self._topics.user_state:
            found.homeless += int(np.count_nonzero(to == HOMELESS))
        found.alone += int(np.count_nonzero(to == ALONE))
        found.expired += int(np.count_nonzero(to == EXPIRED))

    def _note(self, table: Table, rows: Any, largest: Largest) -> None:
        t = self._topics
        if table.topic == t.user_state:
            largest.events = max(largest.events, int(rows["offset"].max()))
            largest.shown = max(largest.shown, int(rows["shown_offset"].max()))
            largest.users = max(largest.users, int(rows["profile_offset"].max()))
        elif table.topic == t.shown_state:
            largest.shown = max(largest.shown, int(rows["offset"].max()))
            largest.users = max(largest.users, int(rows["forgotten"].max()))
        else:
            largest.item_events = max(largest.item_events, int(rows["offset"].max()))

    async def _stage(self, sender: BatchSender, plan: Plan) -> None:
        """Copy all changelogs; copies of an earlier run are made anew.

        Each copy is made and deleted once before: what cannot be deleted must be known before the close.
        """
        for topic in self._tables:
            replicas, config = await self._like(topic, topic)
            await self._broker.remove(staging_of(topic))
            await self._broker.make(staging_of(topic), 1, replicas, config)
            await self._broker.remove(staging_of(topic))
            await self._broker.make(staging_of(topic), self._out.new, replicas, config)
            await known(sender, staging_of(topic), self._out.new)
        copier = staging.Copier(self._settings, sender, self._topics, self._out.new)
        for parent, children in plan.parents():
            for table in self._tables.values():
                await copier.copy(table, parent, {n: self._meta(plan, table, n) for n in children})
                self._say(f"{table.topic}-{parent} copied")

    async def _like(self, topic: str, kept_in: str) -> tuple[int, dict[str, str]]:
        """Return replicas and settings of a changelog, or of its copy; and the settings that it needs."""
        return await self._broker.like(kept_in, self._specs[topic].config(self._settings))

    def _meta(self, plan: Plan, table: Table, number: int) -> dict[bytes, bytes]:
        if table.topic == self._topics.user_state:
            return plan.users_meta(number)
        return plan.items_meta(number) if table.topic == self._topics.item_features else {}

    # -- changing

    async def _finish(self, sender: BatchSender, store: Any) -> None:
        out, t, counts = self._out, self._topics, await self._broker.counts()
        if all(counts.get(topic) == out.old for topic in self._tables) and not await self._fresh():
            await self._refuse(["a worker that had started before has written since all rows were copied"])
        for topic in reversed(self._tables):  # `user-state` last: its copy has the marks
            await self._make_anew(sender, topic)
        growths = (await growths_of(self._settings)).all
        if not growths or growths[-1].new != out.new:
            raise NotReadyError(f"{t.user_state} was given {out.new} partitions by another command")
        for spec in self._specs.values():
            if spec.partitions == out.new and spec.name != t.dead_letters:
                await self._check_stopped()
                await self._broker.grow(spec.name, out.new)
                self._say(f"{spec.name} has {out.new} partitions")
        await self._carry(sender, growths[-1])
        await self._marks(store, reset=True)
        self._say("the workers will fill the online store anew")
        await self._check_stopped()
        await self._broker.grow(t.dead_letters, out.new)

    async def _make_anew(self, sender: BatchSender, topic: str) -> None:
        counts, copy = await self._broker.counts(), staging_of(topic)
        if copy not in counts:
            return  # done before
        replicas, config = await self._like(topic, copy)
        if counts.get(topic) != self._out.new:
            await self._check_stopped()
            await self._broker.remove(topic)
            self._say(f"{topic} has gone, its copy is there")
            await self._broker.make(topic, self._out.new, replicas, config)
        await known(sender, topic, self._out.new)
        for number in range(self._out.new):
            await staging.copy_back(self._settings, sender, topic, number)
            self._say(f"{topic}-{number} made anew")
        await self._broker.remove(copy)

    async def _carry(self, sender: BatchSender, growth: Growth) -> None:
        for topic in (self._topics.users, self._topics.items):
            count = 0
            await known(sender, topic, growth.new)
            for parent, cut in enumerate(growth.cuts[topic]):
                count += await carry(self._settings, sender, topic, parent, cut, growth.old, growth.new)
                self._say(f"{topic}-{parent} carried over")
            self._out.carried[topic] = count

    async def _marks(self, store: Any, *, reset: bool) -> None:
        """Read the marks of the online store; with ``reset``, let the workers write all rows again."""
        for kind in get_args(Kind):
            numbers = range(self._out.new)
            await store.read_marks(kind, numbers)
            if reset:
                await store.set_marks(kind, dict.fromkeys(numbers, 0))
