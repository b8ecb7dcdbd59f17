"""The comparison, partition by partition: only the rows of one partition are in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from headrace.console.verification.catalogue_files import items_of as items_of_snapshot
from headrace.console.verification.dedup_windows import rebuilt_window
from headrace.console.verification.examples_topic import examples_of
from headrace.console.verification.foreign_records import ForeignRecords
from headrace.console.verification.live import LiveItems, LiveUsers
from headrace.console.verification.live_neighbours import LiveNeighbours
from headrace.console.verification.live_rows import Latest, latest_rows
from headrace.console.verification.live_shown import LiveShown
from headrace.console.verification.logs import bases, cut_off, known_from
from headrace.console.verification.raw_topics import Raw
from headrace.console.verification.redis_rows import Stored, compare_stored
from headrace.console.verification.result import VerifyResult
from headrace.console.verification.traces_topic import Traces
from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.oracle.compare.arms import ARM_COUNTS, compare_arms
from headrace.oracle.compare.catalogue import compare_catalogue
from headrace.oracle.compare.examples import compare_examples
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.hidden import compare_hidden
from headrace.oracle.compare.items import compare_items
from headrace.oracle.compare.neighbours import compare_neighbours
from headrace.oracle.compare.profiles import absent_users, compare_marks, compare_profiles
from headrace.oracle.compare.shown import compare_shown
from headrace.oracle.compare.topics import (
    compare_deltas,
    compare_learnt,
    compare_sent_on,
    compare_towers,
    compare_versions,
    compare_windows,
)
from headrace.oracle.compare.users import compare_users
from headrace.oracle.features.affinities import item_attributes
from headrace.oracle.features.arms import ArmRecord
from headrace.oracle.features.catalogue import catalogue_at
from headrace.oracle.features.clicks import PartitionPairs
from headrace.oracle.features.items import Items, items_of
from headrace.oracle.features.judge import accepted, judge, remembered, valid
from headrace.oracle.features.lines import inherited, numbered, own, settled
from headrace.oracle.features.outcomes import slots_of
from headrace.oracle.features.pairs import Neighbours
from headrace.oracle.features.since import Stories
from headrace.oracle.features.slot_labels import Early
from headrace.oracle.features.users import users_of
from headrace.oracle.features.versions import named_versions
from headrace.oracle.features.windows import AHEAD_MS
from headrace.oracle.records.models import Learnt
from headrace.oracle.records.towers import PublishedTowers
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.store.protocol import OnlineStore
from headrace.streams.clock import now_ms
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS, Settings
from headrace.streams.topics.names import Topics


def times_to_ask(newest: int) -> list[int]:
    """Return the times (ms) at which windows are compared: before, at and after the newest act.

    At later times windows become empty. At earlier times windows are exact only for rows whose newest act is
    not much later.
    """
    steps = (-DAY_MS, -HOUR_MS, -AHEAD_MS, 0, 7 * MINUTE_MS, 5 * HOUR_MS, 3 * DAY_MS)
    return [newest + step for step in steps if newest + step >= 0]


class Verification:
    """One run over all partitions: keeps the oracle's values and collects the differences.

    Call ``users`` for every partition, then ``items`` for every partition: the pairs of items come from the
    clicks of all users.

    Parameters
    ----------
    raw
        The raw topics.
    at
        Times (ms) at which windows are compared; ``times_to_ask`` when empty.
    first
        Number of differences kept.
    store
        The online store whose rows are compared with the changelogs; None: no comparison.

    Attributes
    ----------
    result
        The figures so far; complete after ``finish``.
    """

    def __init__(
        self, settings: Settings, raw: Raw, at: Sequence[int], first: int, store: OnlineStore | None
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._raw = raw
        self._store = store
        self._foreign = ForeignRecords(settings)  # one, so that what the registry lacks is waited for once
        self._findings = Findings(first)
        self._began = now_ms()
        t, grown = self._topics, raw.growths.cuts
        #: The log of each partition, with those of its parents: what its dedup window reads.
        self._lines = judge(inherited(raw.events, grown(t.events)), settings.dedup_window_ms)
        self._judged = own(self._lines)
        self._events = accepted(self._judged)
        self._attributes = item_attributes(raw.items)
        self._stories = Stories.of(
            settled(self._judged, grown(t.events)),
            settled(raw.shown, grown(t.impressions)),
            settled(raw.users, grown(t.users)),
            whole=raw.users_whole,
        )
        self._everywhere, self._by_country = items_of(self._events, raw.shown)
        newest = pl.concat([self._events["ts"], raw.shown["ts"].drop_nulls()]).max()
        self._newest = int(str(newest)) if newest is not None else self._began
        self._pairs = PartitionPairs(settings.session_gap_ms)
        self._neighbours: Neighbours | None = None
        self._covered = raw.covered_from
        self._joined = True
        self._margin_ms = settings.future_ms + settings.dedup_window_ms
        self.result = self._begin(list(at) or times_to_ask(self._newest))

    def _begin(self, at: list[int]) -> VerifyResult:
        verdicts = dict(self._judged.group_by("verdict").len().iter_rows())
        n_accepted, duplicates = verdicts.pop("", 0), verdicts.pop("duplicate", 0)
        return VerifyResult(
            events=len(self._judged),
            accepted=n_accepted,
            duplicates=duplicates,
            rejected=sum(verdicts.values()),
            rejected_by=dict(sorted(verdicts.items())),
            impressions=len(self._raw.shown.filter(pl.col("verdict") == "")),
            forgotten=len(self._stories.forgotten),
            at=at,
            covered_from=self._raw.covered_from,
            notes=missing(self._raw),
        )

    def _sent_on(self, number: int, base: Mapping[str, int]) -> None:
        raw, t = self._raw, self._topics
        for name, topic, records, whole in (
            ("events", t.events, raw.events, True),
            ("items", t.items, raw.items, raw.items_whole),
            ("users", t.users, raw.users, raw.users_whole),
        ):
            if whole:  # compaction removes copies that are not the last record of their key
                mine = records.filter(pl.col("partition") == number)
                ahead = base[name] + raw.growths.shift(topic, number)
                compare_sent_on(self._findings, topic, mine, raw.copied, raw.letters.every, ahead)

    def nobody_learns(self) -> None:
        """Leave out examples: no worker of the role `learn` has ever run."""
        self._joined = False
        self.result.notes.append("no worker has ever run with the role learn: examples are not compared")

    def catalogue(self, snapshot: CatalogSnapshot) -> None:
        """Compare the items of the catalogue snapshot with `items`, up to where the snapshot goes."""
        ends = {number: place.next for number, place in snapshot.places.items()}
        whole = self._raw.items_whole
        items = numbered(self._raw.items, self._raw.growths.cuts(self._topics.items))
        expected = catalogue_at(items, ends, whole=whole)
        compare_catalogue(self._findings, expected, items_of_snapshot(snapshot), whole=whole)

    # -- users

    async def users(self, number: int, end: int) -> None:
        """Compare the users of a partition, its dedup window and its examples.

        ``end`` is the offset after its last event.
        """
        await self._user_rows(number)
        await self._window(number, end)
        if self._joined:
            await self._examples(number)

    async def _user_rows(self, number: int) -> None:
        latest = await latest_rows(
            self._settings, self._topics.user_state, number, user_state.ROW, user_state.ORDER
        )
        live, stories = LiveUsers(latest.table()), self._stories.of_partition(number)
        base = bases(self._settings, latest.meta, self._raw.growths, number)
        self._sent_on(number, base)
        stories = stories.effective(base)
        lost = cut_off(self._settings, self._raw.growths, number)
        covered = self._known_from(number, known_from(stories, live.marks, base, self._margin_ms, lost))
        ttl_ms = self._settings.state_ttl_s * 1000
        absent = absent_users(self._findings, stories, live, now=self._began, ttl_ms=ttl_ms)
        if not covered:
            self._pairs.add(stories, live.marks)
        all_stories, stories = stories, stories.without(absent)
        counted = stories.after(live.marks)
        rows = compare_users(
            self._findings,
            users_of(counted.events, counted.shown, stories.named),
            live,
            self._attributes,
            self.result.at,
            covered_from=covered,
            complete=self._raw.items_whole,
        )
        compare_marks(self._findings, rows, stories, live, covered_from=covered)
        compare_profiles(self._findings, rows, counted, live, covered_from=covered)
        compare_hidden(
            self._findings,
            rows,
            counted.events,
            live,
            self._attributes,
            covered_from=covered,
            complete=self._raw.items_whole,
        )
        await self._shown_rows(number, all_stories, live.marks, covered)
        self.result.users += len(rows)
        self._note_refused(latest, self._topics.user_state, number)
        names = dict(zip(rows.keys.tolist(), rows.names, strict=True))
        gone = dict(self._stories.of_partition(number).forgotten.select("user", "user_id").iter_rows())
        known = dict(zip(latest.rows, user_state.known(list(latest.rows.values())).tolist(), strict=True))
        await self._redis(
            Stored("u", "user", user_state.ROW, {**names, **gone}, self._settings.user_ttl_s),
            {key: row if known[key] else None for key, row in latest.rows.items()}
            | dict.fromkeys(gone.keys() - latest.rows.keys()),
        )

    async def _shown_rows(self, number: int, stories: Stories, users: pl.DataFrame, covered: int) -> None:
        topic = self._topics.shown_state
        latest = await latest_rows(self._settings, topic, number, shown_state.ROW, shown_state.ORDER)
        self.result.shown_rows += compare_shown(
            self._findings,
            stories,
            LiveShown(latest.table()),
            users.select("user", "shown_since"),
            now=self._began,
            ttl_ms=self._settings.state_ttl_s * 1000,
            covered_from=covered,
        )
        self._note_refused(latest, topic, number)
        gone = dict(stories.forgotten.select("user", "user_id").iter_rows())
        names = dict(stories.shown.select("user", "user_id").unique("user").iter_rows()) | gone
        there = zip(latest.rows, shown_state.filled(list(latest.rows.values())).tolist(), strict=True)
        await self._redis(
            Stored("s", "user", shown_state.ROW, names, self._settings.user_ttl_s),
            {key: latest.rows[key] if filled else None for key, filled in there}
            | dict.fromkeys(gone.keys() - latest.rows.keys()),
        )

    def _known_from(self, number: int, since: int) -> int:
        """Return the time (ms) from which the topics have everything that the rows of a partition count."""
        if since:
            self._covered = max(self._covered, since)
            self.result.covered_from = self._covered
            self.result.notes.append(
                f"a topic was made again or lost records (partition {number}): totals and histories are not "
                "compared, windows only where all of their time is there"
            )
        return max(since, self._raw.covered_from)

    async def _window(self, number: int, end: int) -> None:
        mine = self._lines.filter(pl.col("partition") == number)
        newest = mine["stream"].max()
        if newest is None or not self._settings.dedup_window_ms:
            return
        growths = self._raw.growths
        found = await rebuilt_window(self._settings, self._foreign, growths, number, int(str(newest)), end)
        expected = remembered(mine, self._settings.dedup_window_ms)
        compare_windows(self._findings, number, expected, found)

    async def _examples(self, number: int) -> None:
        mine = pl.col("partition") == number
        examples, kept_from = await examples_of(self._settings, number)
        wait_ms = self._settings.outcome_wait_ms
        early = Early(self._settings.passed_wait_ms, self._settings.seen_below)
        events = valid(self._judged.filter(mine))
        slots = slots_of(self._raw.shown.filter(mine), events, wait_ms, early, examples)
        compare_examples(self._findings, slots, examples, read_at=self._began, kept_from=kept_from)

    # -- items

    async def items(self, number: int, of: int) -> None:
        """Compare the items of partition ``number`` of ``of``: everywhere, by country, their neighbours."""
        t = self._topics
        await self._item_rows(number, of, t.item_features, self._everywhere, by_country=False)
        await self._item_rows(number, of, t.item_countries, self._by_country, by_country=True)
        if not self._covered:
            await self._neighbour_rows(number, of)

    async def _item_rows(self, number: int, of: int, topic: str, known: Items, *, by_country: bool) -> None:
        latest = await latest_rows(self._settings, topic, number, item_state.ROW, ("offset",))
        rows = compare_items(
            self._findings,
            known.of_partition(number, of),
            LiveItems(latest.table(), by_country=by_country),
            self.result.at,
            covered_from=self._covered,
        )
        self._note_refused(latest, topic, number)
        if by_country:
            self.result.countries += len(rows)
            return
        self.result.items += len(rows)
        names = dict(zip(rows.keys.tolist(), rows.names, strict=True))
        await self._redis(Stored("i", "item", item_state.ROW, names, self._settings.item_ttl_s), latest.rows)

    async def _neighbour_rows(self, number: int, of: int) -> None:
        if self._neighbours is None:
            self._neighbours = self._pairs.neighbours()
        topic = self._topics.neighbours
        latest = await latest_rows(self._settings, topic, number, neighbours.ROW, ("offset",))
        rows = compare_neighbours(
            self._findings,
            self._neighbours.of_partition(number, of, self._pairs.unsure),
            LiveNeighbours(latest.table()),
            self._everywhere.keys.select("item", "name"),
            self._pairs.unsure,
        )
        self._note_refused(latest, topic, number)
        names = dict(zip(rows.keys.tolist(), rows.names, strict=True))
        await self._redis(Stored("n", "item", neighbours.ROW, names, self._settings.item_ttl_s), latest.rows)

    # -- all partitions

    def models(
        self,
        versions: pl.DataFrame,
        learnt: Learnt | None,
        deltas: pl.DataFrame,
        towers: PublishedTowers | None,
        *,
        whole: bool,
    ) -> None:
        """Compare the online model's versions, those that impressions name, leaf deltas, newest towers."""
        compare_learnt(self._findings, learnt, self._raw.shown, whole=not self._covered)
        compare_towers(self._findings, towers)
        named = named_versions(self._raw.shown, versions, whole=whole)
        compare_versions(self._findings, versions, named)
        compare_deltas(self._findings, deltas, whole=whole)

    def traces(self, found: Traces) -> None:
        """Take what was found on `traces`."""
        found.tell(self._findings)

    def rollout(self, record: ArmRecord, outcomes: pl.DataFrame | None) -> None:
        """Compare the counts of a rollout; ``outcomes`` is None when not all of its examples are there."""
        if outcomes is None:
            self._findings.count(ARM_COUNTS, 0, 1)
        else:
            compare_arms(self._findings, record, outcomes)

    def _note_refused(self, latest: Latest, topic: str, number: int) -> None:
        if latest.refused:
            self.result.notes.append(
                f"{latest.refused} records of {topic}-{number} are not rows of this version: passed over"
            )

    async def _redis(self, stored: Stored, packed: dict[int, bytes] | dict[int, bytes | None]) -> None:
        if self._store is not None:
            n = await compare_stored(self._findings, self._store, stored, packed)
            self.result.redis_rows += n

    def finish(self) -> VerifyResult:
        """Return the complete figures."""
        f, out = self._findings, self.result
        out.values_compared, out.differences, out.not_compared = f.compared, f.differences, f.not_compared
        out.compared, out.left_out = dict(f.by_kind), {kind: n for kind, n in f.left_out.items() if n}
        out.rows_that_differ = f.rows
        out.first = f.first_as_dicts()
        return out


def missing(raw: Raw) -> list[str]:
    """Return notes about what is not compared because the topics no longer hold all records."""
    notes = []
    if raw.covered_from:
        notes.append(
            "the broker has deleted the beginning of `events` or `impressions`: totals, decayed counts, "
            "histories and neighbours are not compared, windows only where all of their time is there"
        )
    if not raw.items_whole:
        notes.append(
            "`items` was compacted, so earlier attributes of an item are not known: affinities of users "
            "are not compared"
        )
    if not raw.users_whole:
        notes.append(
            "`users` was compacted: a profile is not compared when the last record of its user was refused "
            "or sent on, and a tombstone may be missing"
        )
    return notes
