"""Declares the metrics of a worker, once, and holds their values. Units are seconds, bytes, records.

There are two kinds. What happens (a batch, a reply) is counted with ``count`` and ``observe``. What is there
(rows, lag, counts that a stage keeps anyway) is read when somebody asks for the metrics: a function given to
``read`` returns samples. What is not known has no sample: it is absent, never 0.

docs/operator.md has the table; a test compares it with ``DECLARED``.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

#: Upper bounds of the times of a stage of answering, s.
STAGE_BOUNDS: Final = (
    0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
_FAST = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_SLOW = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)
_PLACE = ("role", "agent", "topic", "partition")
_PART = ("kind", "part")


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric.

    Attributes
    ----------
    name
        Its full name; that of a counter ends with ``_total``.
    kind
        ``counted`` counters and histograms hold a value; ``counter``, ``gauge`` and ``spread`` (a histogram
        that somebody else keeps) are read.
    text
        What it says.
    labels
        Names of its labels.
    buckets
        Upper bounds of the buckets of a histogram.
    """

    name: str
    kind: Literal["counted", "histogram", "counter", "gauge", "spread"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


DECLARED: tuple[Declared, ...] = (
    Declared("headrace_role_info", "gauge", "1 for every role of this process", ("role", "version")),
    # Reading
    Declared("headrace_lag_records", "gauge", "records that the agent has not processed", _PLACE),
    Declared("headrace_lag_seconds", "gauge", "age of the first record that is not processed", _PLACE),
    Declared("headrace_records_total", "counted", "records processed", _PLACE[:3]),
    Declared("headrace_batch_records", "histogram", "records in a batch", _PLACE[1:3], _SIZES),
    Declared("headrace_batch_seconds", "histogram", "time to process a batch", _PLACE[1:3], _SLOW),
    Declared("headrace_commit_seconds", "histogram", "time to commit offsets", ("role",), _SLOW),
    Declared("headrace_commit_failures_total", "counted", "commits that were refused or failed", ("role",)),
    Declared(
        "headrace_consumer_restarts_total",
        "counted",
        "restarts of the consumer, by a partition that was not read",
        _PLACE[:1] + _PLACE[2:],
    ),
    Declared(
        "headrace_restore_records",
        "gauge",
        "changelog records left to read of this recovery",
        ("table", "partition"),
    ),
    Declared(
        "headrace_restore_seconds",
        "gauge",
        "time until they are read, at the pace of the last 20 s",
        ("table", "partition"),
    ),
    Declared("headrace_dead_letters_total", "counted", "records refused", ("agent", "reason")),
    Declared("headrace_ignored_events_total", "counted", "events that the mapping file leaves out"),
    Declared("headrace_late_touches_total", "counted", "touches of slots that had closed early", ("agent",)),
    # Answering
    Declared(
        "headrace_reply_seconds", "histogram", "age of a request when it is answered", ("surface",), _SLOW
    ),
    Declared(
        "headrace_replies_total",
        "counted",
        "replies: ok, degraded (with a list), empty",
        ("surface", "outcome"),
    ),
    Declared("headrace_degraded_total", "counted", "replies that lacked something, by what", ("reason",)),
    Declared("headrace_rungs_total", "counted", "lists by how much there was time for", ("rung",)),
    Declared(
        "headrace_rung_seconds",
        "histogram",
        "age of a request when it is answered, by the least rung of its lists",
        ("rung",),
        _SLOW,
    ),
    Declared(
        "headrace_bulk_replies_total",
        "counted",
        "replies to bulk requests: ok, degraded, empty, error",
        ("surface", "outcome"),
    ),
    Declared("headrace_bulk_share_ratio", "gauge", "share of the time that bulk lists may take now"),
    Declared(
        "headrace_refused_requests_total",
        "counted",
        "requests with an error that says when to retry: rate_limited, overloaded",
        ("code",),
    ),
    Declared(
        "headrace_rate_unchecked_total",
        "counted",
        "requests that passed without a look at their caller's rate: Redis did not answer",
    ),
    Declared(
        "headrace_state_waits_total",
        "counted",
        "requests that waited for the state that they demand: reached, over",
        ("outcome",),
    ),
    Declared("headrace_part_calls_total", "counter", "requests that a part of the pipeline ran for", _PART),
    Declared("headrace_part_failures_total", "counter", "requests that it failed for", _PART),
    Declared("headrace_part_slow_total", "counter", "requests that it took too long for", _PART),
    Declared("headrace_part_left_out_total", "counter", "requests that went without it", _PART),
    Declared("headrace_part_seconds_total", "counter", "time it took", _PART),
    Declared("headrace_stage_seconds", "spread", "time of a stage of answering", ("stage",), STAGE_BOUNDS),
    Declared(
        "headrace_source_items_total", "counter", "items of a source: proposed, shown", ("source", "step")
    ),
    Declared(
        "headrace_source_outcomes_total",
        "counter",
        "slots of a source with their outcome: shown, clicked; alone, clicked_alone (no other proposed it)",
        ("source", "step"),
    ),
    Declared("headrace_filter_items_total", "counter", "items of a filter: given, kept", ("filter", "step")),
    Declared(
        "headrace_outcomes_total",
        "counter",
        "shown slots with their outcome, of the newest rankers: shown, clicked",
        ("ranker", "outcome"),
    ),
    # HTTP gateway
    Declared("headrace_gateway_requests_total", "counted", "requests of HTTP", ("route", "status")),
    Declared("headrace_gateway_seconds", "histogram", "time to answer one", ("route",), _SLOW),
    Declared("headrace_gateway_open_requests", "gauge", "requests that are being answered"),
    Declared(
        "headrace_gateway_refused_total",
        "counted",
        "events, items, profiles refused before they were written",
        ("topic", "reason"),
    ),
    # Canary
    Declared(
        "headrace_canary_seconds",
        "histogram",
        "time until a list shows what was written: event, publish, withdraw",
        ("probe",),
        _SLOW,
    ),
    Declared(
        "headrace_canary_probes_total",
        "counted",
        "probes: within the limit, late, missed, unsent",
        ("probe", "outcome"),
    ),
    Declared(
        "headrace_canary_objective_ratio", "gauge", "share of the probes to be within the limit", ("probe",)
    ),
    Declared(
        "headrace_canary_within_ratio", "gauge", "share of the probes of the window that were", ("probe",)
    ),
    Declared(
        "headrace_canary_budget_left_ratio",
        "gauge",
        "share of the error budget of the window that is left; negative: overspent",
        ("probe",),
    ),
    # What is logged, computed again
    Declared(
        "headrace_traces_total",
        "counted",
        "traces of lists: written, too_large, failed",
        ("outcome",),
    ),
    Declared("headrace_spans_total", "counter", "spans of requests: written, lost", ("outcome",)),
    Declared("headrace_skew_checked_total", "counter", "logged slots that were computed again", ("what",)),
    Declared("headrace_skew_differs_total", "counter", "of them, those that are different then", ("what",)),
    Declared(
        "headrace_drift_ratio", "gauge", "how far a feature has moved (PSI), the farthest five", ("feature",)
    ),
    Declared("headrace_drift_most_ratio", "gauge", "the same of the feature that has moved farthest"),
    Declared("headrace_drift_rows", "gauge", "newest shown slots that were compared with the training"),
    # What answering reads
    Declared("headrace_index_items", "gauge", "items in the hot index, with the new ones of the snapshot"),
    Declared("headrace_index_tail_items", "gauge", "of them in the tail, which is compared completely"),
    Declared("headrace_index_merge_age_seconds", "gauge", "time since the tail was merged"),
    Declared(
        "headrace_index_recall_ratio",
        "gauge",
        "share of the nearest items that it found, of the last samples",
    ),
    Declared("headrace_index_recall_samples_total", "counter", "searches compared with an exact one"),
    Declared("headrace_catalogue_items", "gauge", "items of the catalogue's snapshot that count"),
    Declared("headrace_catalogue_age_seconds", "gauge", "time since the records behind it were read"),
    Declared(
        "headrace_catalogue_recall_ratio",
        "gauge",
        "share of the nearest items that its search found, of the last samples",
    ),
    Declared("headrace_catalogue_recall_samples_total", "counter", "its searches compared with an exact one"),
    Declared("headrace_model_info", "gauge", "1 for the version in use", ("model", "version")),
    Declared("headrace_model_age_seconds", "gauge", "time since the model in use was published", ("model",)),
    Declared(
        "headrace_model_auc_ratio",
        "gauge",
        "AUC of the model in use, as published with it",
        ("model",),
    ),
    Declared(
        "headrace_online_share_ratio",
        "gauge",
        "share of an objective in the score of the online model alone",
        ("objective",),
    ),
    Declared(
        "headrace_online_auc_ratio",
        "gauge",
        "AUC of an objective of the online model, of the last 5000 slots",
        ("objective",),
    ),
    Declared("headrace_online_log_loss_ratio", "gauge", "its mean log-loss, of these", ("objective",)),
    Declared(
        "headrace_online_calibration_ratio",
        "gauge",
        "its predicted outcomes for each that came, of these",
        ("objective",),
    ),
    Declared(
        "headrace_online_drifts_total",
        "counter",
        "how often its log-loss has changed since the learners started",
        ("objective",),
    ),
    Declared("headrace_trainings_total", "counted", "trainings: candidate, refused, failed", ("outcome",)),
    Declared(
        "headrace_rollout_steps_total",
        "counted",
        "what a rollout decided: promote, roll back; from which stage",
        ("kind", "step", "stage"),
    ),
    Declared("headrace_mlflow_failures_total", "counted", "attempts to mirror rankers to MLflow that failed"),
    Declared("headrace_mirror_rows", "gauge", "rows of a mirror", ("mirror",)),
    Declared("headrace_mirror_bytes", "gauge", "memory of its rows and their index", ("mirror",)),
    Declared(
        "headrace_stale_partitions",
        "gauge",
        "partitions whose rows in Redis may be missing or old",
        ("rows",),
    ),
    # State
    Declared(
        "headrace_table_rows", "gauge", "rows of a state store: memory, evicted, standby", ("table", "place")
    ),
    Declared("headrace_table_bytes", "gauge", "memory of its rows and their index", ("table",)),
    Declared("headrace_redis_seconds", "histogram", "time of a call of Redis", ("call",), _FAST),
    Declared("headrace_redis_errors_total", "counted", "calls of Redis that failed", ("call",)),
    Declared("headrace_loop_late_seconds", "histogram", "lateness of a timer of the event loop", (), _FAST),
    Declared(
        "headrace_loop_held_seconds",
        "histogram",
        "the part of it in which the loop's thread did not wait for a CPU",
        (),
        _FAST,
    ),
    Declared(
        "headrace_loop_cpu_wait_seconds_total",
        "counted",
        "time for which the event loop's thread could have run and had no CPU",
    ),
)
_BY_NAME = {declared.name: declared for declared in DECLARED}
_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "spread": HistogramMetricFamily}


class Sample(NamedTuple):
    """A value that was read, and its labels in the order of the declaration.

    Of a spread, ``value`` is the sum; ``counts`` has a number for each bucket, and one for larger values.
    """

    name: str
    value: float
    labels: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


class Metrics(Collector):
    """The metrics of one process.

    Attributes
    ----------
    registry
        What is asked for them. Only the thread of the event loop may ask.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._held: dict[str, Counter | Histogram] = {}
        self._children: dict[tuple[str, ...], Any] = {}
        self._readers: list[Callable[[], Iterable[Sample]]] = []
        for declared in DECLARED:
            if declared.kind == "counted":
                self._held[declared.name] = Counter(
                    declared.name, declared.text, declared.labels, registry=self.registry
                )
            elif declared.kind == "histogram":
                self._held[declared.name] = Histogram(
                    declared.name,
                    declared.text,
                    declared.labels,
                    registry=self.registry,
                    buckets=declared.buckets,
                )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        self._child(name, *labels).inc(by)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        self._child(name, *labels).observe(value)

    def _child(self, *name: str) -> Any:
        child = self._children.get(name)
        if child is None:
            held = self._held[name[0]]
            child = self._children[name] = held.labels(*name[1:]) if len(name) > 1 else held
        return child

    def read(self, reader: Callable[[], Iterable[Sample]]) -> None:
        """Ask ``reader`` for samples whenever somebody asks for the metrics."""
        self._readers.append(reader)

    def describe(self) -> Iterable[Any]:
        """Return nothing: the registry does not read the values when it is made."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield the metrics that are read, those with samples."""
        found: dict[str, list[Sample]] = {}
        for reader in self._readers:
            for sample in _read(reader):
                found.setdefault(sample.name, []).append(sample)
        for name, samples in found.items():
            declared = _BY_NAME[name]
            family: Any = _FAMILIES[declared.kind](name, declared.text, labels=declared.labels)
            for sample in samples:
                if declared.kind == "spread":
                    family.add_metric(
                        sample.labels, _cumulative(declared.buckets, sample.counts), sample.value
                    )
                else:
                    family.add_metric(sample.labels, sample.value)
            yield family


def _cumulative(buckets: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return upper bound and number of values up to it, for each bucket."""
    bounds = (*map(str, buckets), "+Inf")
    return list(zip(bounds, itertools.accumulate(map(float, counts)), strict=True))


def _read(reader: Callable[[], Iterable[Sample]]) -> Sequence[Sample]:
    """Return a reader's samples; none when it failed, so that the others are still seen."""
    try:
        return list(reader())
    except Exception:
        log.exception("metrics could not be read", extra={"action": "metrics_failed"})
        return ()
