"""``headrace import events``: read and check all files, sort the events by time, send them."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from aiokafka.errors import KafkaError

from headrace.console.imported.arriving import imports_in
from headrace.console.imported.bad_rows import BadRows
from headrace.console.imported.event_columns import FIELDS, SCHEMA, events_of
from headrace.console.imported.jobs import Job, Jobs, planned
from headrace.console.imported.kept_long_enough import objection
from headrace.console.imported.mapping import FieldMap
from headrace.console.imported.sending import Sending
from headrace.console.imported.sorting import Runs
from headrace.console.imported.sources import InputFile
from headrace.console.imported.tables import read
from headrace.console.screen import Reporter
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import check_topics, topic_configs
from headrace.streams.topics.names import Topics
from headrace.streams.topics.refusal import unavailable
from headrace.streams.topics.sender import BatchSender

#: Folder below ``data_dir`` where events are sorted.
WORK = "import-work"


@dataclass(frozen=True)
class Wanted:
    """What is to be imported, besides the files.

    Attributes
    ----------
    mapping
        Columns and fields.
    since_ms, until_ms
        Only events from the first time on and before the second one, ms.
    rate
        Most events in a second; 0: any number.
    again
        Import also files that were imported before.
    check
        Read and check the files, send nothing.
    """

    mapping: FieldMap
    since_ms: int | None = None
    until_ms: int | None = None
    rate: float = 0.0
    again: bool = False
    check: bool = False

    def described(self) -> str:
        """Return what decides which events the files have, as a text."""
        return f"events {self.mapping.described()} {self.since_ms} {self.until_ms}"


class Sorted(msgspec.Struct):
    """What the files have: good rows in the wanted time, bad rows, oldest and newest event (ms; 0: none)."""

    events: int = 0
    skipped: int = 0
    oldest: int = 0
    newest: int = 0


@dataclass
class Imported:
    """What an import did; ``before``: files that were imported before."""

    files: int = 0
    before: int = 0
    events: int = 0
    sent: int = 0
    skipped: int = 0
    oldest: int = 0
    newest: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return asdict(self)

    def add(self, told: Sorted) -> None:
        """Add what the files of one import have."""
        self.events += told.events
        self.skipped += told.skipped
        self.oldest = min(filter(None, (self.oldest, told.oldest)), default=0)
        self.newest = max(self.newest, told.newest)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from the same import."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another import is at work in {folder}") from None
        yield


def sort_events(
    files: Sequence[InputFile],
    wanted: Wanted,
    runs: Runs,
    bad: BadRows,
    newest_ms: int,
    report: Reporter,
) -> Sorted:
    """Read and check the events of files, in their order, and sort them; return what they have.

    What an earlier run has sorted is not read again.

    Raises
    ------
    ConfigError
        A file cannot be read, or has a bad row and these are not skipped.
    """
    if runs.complete:
        told = msgspec.json.decode(runs.told, type=Sorted)
        if not told.skipped or bad.path is not None:
            return told
    runs.begin()
    bad.begin()
    told, rows = Sorted(), 0
    columns = wanted.mapping.wanted(FIELDS)
    for file in files:
        for chunk in read(file, columns, bad):
            events = events_of(chunk, wanted.mapping, bad, made_id=file.digest[:16], newest_ms=newest_ms)
            events = _in_time(events, wanted)
            rows += len(chunk.rows)
            if len(events):
                ts = events.column("ts").to_numpy()
                told.oldest = min(int(ts.min()), told.oldest or int(ts.min()))
                told.newest = max(told.newest, int(ts.max()))
                told.events += len(events)
                runs.add(events)
            report(rows, f"rows read, {bad.total:,} bad; {file.at.name}")
    told.skipped = bad.total
    runs.finish(msgspec.json.encode(told).decode())
    return told


def _in_time(events: pa.RecordBatch, wanted: Wanted) -> pa.RecordBatch:
    ts = events.column("ts").to_numpy()
    inside = np.ones(len(ts), bool)
    if wanted.since_ms is not None:
        inside &= ts >= wanted.since_ms
    if wanted.until_ms is not None:
        inside &= ts < wanted.until_ms
    return events if inside.all() else events.filter(pa.array(inside))


class EventImport:
    """An import of events.

    Parameters
    ----------
    settings
        The installation.
    files, wanted, bad
        What is imported, and where bad rows go.
    work
        Folder of this machine where events are sorted.
    tell, report
        Called with a sentence before a wait, and with the progress.
    """

    def __init__(
        self,
        settings: Settings,
        files: Sequence[InputFile],
        wanted: Wanted,
        bad: BadRows,
        work: Path,
        *,
        tell: Callable[[str], None] = lambda text: None,
        report: Reporter = lambda done, text: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings, self._wanted, self._bad, self._work = settings, wanted, bad, work
        self._files = {file.digest: file for file in files}
        self._tell, self._report, self._clock = tell, report, clock
        self._jobs = Jobs(settings)

    async def run(self) -> Imported:
        """Import what was not imported before.

        Raises
        ------
        ConfigError
            A file, a topic or an option is wrong. When nothing was sent, the message says so.
        UnavailableError
            The broker does not answer or refuses; the same command goes on there.
        """
        known = [job for job in self._jobs.all() if job.options.startswith("events ")]
        files, options = list(self._files.values()), self._wanted.described()
        jobs, before = planned(files, options, known, self._clock.now_ms(), again=self._wanted.again)
        if jobs and not self._wanted.check:
            await self._topic_is_there()
            if not known:
                await self._find_in_topic(jobs)
        out = Imported(len(self._files), before)
        for job in jobs:
            folder = self._work / self._settings.name(job.id)
            with _alone(folder):
                await self._import(job, folder, out)
            if not self._wanted.check:
                shutil.rmtree(folder, ignore_errors=True)
        return out

    async def _topic_is_there(self) -> None:
        topic = Topics(self._settings).events
        missing = [text for text in await check_topics(self._settings) if text.startswith(topic)]
        if missing:
            raise ConfigError("; ".join(missing))

    async def _find_in_topic(self, jobs: Sequence[Job]) -> None:
        """Where no import is known, look for some in the topic: then what is known is elsewhere, or lost."""
        topic = Topics(self._settings).events
        found = await imports_in(self._settings, topic)
        for job in jobs:
            if job.id in found:
                job.state = "sending"
                found.remove(job.id)
        if found and not self._wanted.again:
            raise ConfigError(
                f"{topic} has events of an import of which nothing is known in {self._jobs.folder}: "
                "run this with the HEADRACE_DATA_DIR or HEADRACE_DATA_URL of that import; "
                "--again imports in any case"
            )

    async def _import(self, job: Job, folder: Path, out: Imported) -> None:
        runs = Runs(folder, SCHEMA)
        files = [self._files[digest] for digest in sorted(job.files)]
        newest = job.began_ms + self._settings.future_ms
        told = sort_events(files, self._wanted, runs, self._bad, newest, self._report)
        out.add(told)
        if job.state == "sending" and told.events != (job.events or told.events):
            raise ConfigError(
                f"these files have {told.events} events, and had {job.events} when this import began"
            )
        if self._wanted.check or not told.events:
            return
        await self._may_be_kept(told)
        job.events, job.skipped = told.events, told.skipped
        await self._send(job, runs, out)

    async def _may_be_kept(self, told: Sorted) -> None:
        topic = Topics(self._settings).events
        config = (await topic_configs(self._settings, [topic])).get(topic, {})
        if why := objection(config, topic, told.oldest, self._clock.now_ms(), self._settings):
            raise ConfigError(why)

    async def _send(self, job: Job, runs: Runs, out: Imported) -> None:
        sender = BatchSender(self._settings)
        sending = Sending(self._settings, sender, self._jobs, self._clock, self._wanted.rate)
        try:
            await sender.start()
            partitions = await sender.partitions_of(Topics(self._settings).events)
            there = await sending.take_over(job, partitions, self._tell)
            if there:
                self._tell(f"at least {there:,} of {job.events:,} events are there already")
            out.sent += await sending.send(job, runs, self._report)
        except KafkaError as exc:
            raise await unavailable(self._settings, exc) from exc
        finally:
            await sender.stop()
            sending.stopped(job)
