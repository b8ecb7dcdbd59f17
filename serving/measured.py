"""Reads the metrics of a serving worker from what it keeps anyway. Nothing here is called for a request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from headrace.models.learning import online, ranker
from headrace.models.learning.objectives import CLICK, figure_name
from headrace.serving.answering import Answer
from headrace.serving.index.recall import RecallProbe
from headrace.serving.ladder import least
from headrace.serving.recommender import Recommender
from headrace.serving.skew import SkewProbe
from headrace.serving.store.freshness import Freshness
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.messages.schemas import Impression, RecReply, RecRequest
from headrace.streams.metrics import Metrics, Sample
from headrace.streams.settings import Settings

_OF_PART = ("calls", "slow", "left_out", "seconds")
#: Metrics of the figures of an objective.
_OF_OBJECTIVE = {
    "auc": "headrace_online_auc_ratio",
    "log_loss": "headrace_online_log_loss_ratio",
    "calibration": "headrace_online_calibration_ratio",
    "drifts": "headrace_online_drifts_total",
}
_ROWS_OF = {"u": "users", "s": "shown", "n": "neighbours"}


class Measured:
    """Counts the replies of a worker; reads its recommender, its recall, and how fresh the online store is.

    Parameters
    ----------
    metrics
        Gets the values.
    recommender, freshness
        What is read.
    settings
        Without a port for the metrics, recall is not measured.
    clock
        Time.
    """

    def __init__(
        self,
        metrics: Metrics,
        recommender: Recommender,
        freshness: Freshness,
        settings: Settings,
        clock: Clock = SYSTEM,
    ) -> None:
        self._metrics, self._recommender, self._freshness = metrics, recommender, freshness
        self._clock = clock
        self.recall = RecallProbe() if settings.metrics_port else None
        self.catalogue_recall = RecallProbe() if settings.metrics_port else None
        self.skew = SkewProbe() if settings.metrics_port else None
        metrics.read(self.read)

    def close(self) -> None:
        """End the background threads."""
        for probe in (self.recall, self.catalogue_recall, self.skew):
            if probe is not None:
                probe.close()

    def replied(self, replies: Sequence[tuple[RecRequest, RecReply]]) -> None:
        """Count replies that are on their way; now and then, compare a search with an exact one."""
        base = self._recommender.catalog.base
        for request, reply in replies:
            measure_reply(self._metrics, request.surface, reply)
            if self.recall is not None:
                self.recall.replied(self._recommender.hot)
            if self.catalogue_recall is not None and base is not None:
                self.catalogue_recall.replied(base)

    def answered(self, reply: RecReply, answers: Sequence[Answer]) -> None:
        """Measure how old a request is whose reply is on its way, by the least rung of its lists."""
        if rung := least([answer.rung for answer in answers]):
            self._metrics.observe("headrace_rung_seconds", reply.took_ms / 1000, rung)

    def logged(self, answer: Answer, impression: Impression) -> None:
        """Now and then, compare what is logged of a list with what is computed again."""
        if self.skew is not None and answer.ranked is not None:
            self.skew.logged(answer.ranked, impression)

    def read(self) -> Iterator[Sample]:
        """Yield all samples."""
        yield from self._parts()
        for stage, times in self._recommender.data.stages.times.items():
            yield Sample("headrace_stage_seconds", times.seconds, (stage,), tuple(times.counts))
        yield from self._index()
        yield from self._catalogue()
        yield from self._models()
        yield from self._objectives()
        yield from self._mirrors()
        yield from self._skew()
        for kind, stale in self._freshness.stale.items():
            yield Sample("headrace_stale_partitions", len(stale), (_ROWS_OF[kind],))

    def _parts(self) -> Iterator[Sample]:
        for label, counts in self._recommender.pipeline.counts().items():
            kind, name = label.split(":", 1)
            for what in _OF_PART:
                yield Sample(f"headrace_part_{what}_total", getattr(counts, what), (kind, name))
            yield Sample("headrace_part_failures_total", counts.failed, (kind, name))
            if kind == "source":
                yield Sample("headrace_source_items_total", counts.kept, (name, "proposed"))
                yield Sample("headrace_source_items_total", counts.shown, (name, "shown"))
            elif kind in {"filter", "late"}:
                yield Sample("headrace_filter_items_total", counts.given, (name, "given"))
                yield Sample("headrace_filter_items_total", counts.kept, (name, "kept"))

    def _index(self) -> Iterator[Sample]:
        hot = self._recommender.hot
        yield Sample("headrace_index_items", len(hot))
        yield Sample("headrace_index_tail_items", hot.in_tail)
        if hot.merged_at is not None:
            yield Sample("headrace_index_merge_age_seconds", time.monotonic() - hot.merged_at)
        yield from _recall("headrace_index", self.recall)

    def _catalogue(self) -> Iterator[Sample]:
        base = self._recommender.catalog.base
        if base is None:
            return
        written_s = base.snapshot.written_ms / 1000
        yield Sample("headrace_catalogue_items", base.count)
        yield Sample("headrace_catalogue_age_seconds", max(0.0, self._clock.now_ms() / 1000 - written_s))
        yield from _recall("headrace_catalogue", self.catalogue_recall)

    def _skew(self) -> Iterator[Sample]:
        if self.skew is not None:
            self.skew.settle(wait=False)
            for what, slots in self.skew.checked.items():
                yield Sample("headrace_skew_checked_total", slots, (what,))
                yield Sample("headrace_skew_differs_total", self.skew.skewed[what], (what,))

    def _models(self) -> Iterator[Sample]:
        models, now_ms = self._recommender.data.models, self._clock.now_ms()
        for name, model in ((ranker.NAME, models.ranker), (online.NAME, models.online)):
            if model is None:
                continue
            yield Sample("headrace_model_info", 1, (name, model.version))
            if model.auc is not None:
                yield Sample("headrace_model_auc_ratio", model.auc, (name,))
            published = models.published.get(name.encode())
            if published is not None:
                yield Sample("headrace_model_age_seconds", max(0, now_ms - published) / 1000, (name,))

    def _objectives(self) -> Iterator[Sample]:
        """Yield what was published of each objective of the online model in use."""
        model = self._recommender.data.models.online
        if model is None:
            return
        shares = model.shares or {CLICK: 1.0}
        for objective in (CLICK, *model.heads):
            yield Sample("headrace_online_share_ratio", shares.get(objective, 0.0), (objective,))
            for what, name in _OF_OBJECTIVE.items():
                value = model.quality.get(figure_name(objective, what))
                if value is not None:
                    yield Sample(name, value, (objective,))

    def _mirrors(self) -> Iterator[Sample]:
        stats = self._recommender.stats
        tables = {
            "items": stats.table,
            "countries": stats.countries,
            "idle": stats.idle.table,
            "catalogue": self._recommender.catalog.table,
        }
        for name, table in tables.items():
            yield Sample("headrace_mirror_rows", len(table), (name,))
            yield Sample("headrace_mirror_bytes", table.nbytes, (name,))


def _recall(name: str, probe: RecallProbe | None) -> Iterator[Sample]:
    """Yield what a probe has measured, when it has."""
    if probe is None:
        return
    probe.settle(wait=False)
    if probe.recall is not None:
        yield Sample(f"{name}_recall_ratio", probe.recall)
        yield Sample(f"{name}_recall_samples_total", probe.samples)


def outcome_of(reply: RecReply) -> str:
    """Return what a reply with a list counts as."""
    shown = reply.items or any(one.items for one in reply.lists)
    return "empty" if not shown else "degraded" if reply.degraded else "ok"


def measure_reply(metrics: Metrics, surface: str, reply: RecReply) -> None:
    """Count a reply that is on its way."""
    metrics.count("headrace_replies_total", surface, outcome_of(reply))
    for reason in reply.degraded:
        metrics.count("headrace_degraded_total", reason)
    metrics.observe("headrace_reply_seconds", reply.took_ms / 1000, surface)
