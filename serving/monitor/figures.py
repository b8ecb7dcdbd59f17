"""From what the workers say to the figures of the dashboard. Pure.

``READ`` names every metric that is looked at; what a worker does not have is absent, never 0.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.streams.scraping import Samples, by_label, quantile

#: Metrics that are read.
READ: Final = (
    "headrace_role_info",
    "headrace_records_total",
    "headrace_reply_seconds",
    "headrace_replies_total",
    "headrace_rungs_total",
    "headrace_stage_seconds",
    "headrace_degraded_total",
    "headrace_dead_letters_total",
    "headrace_outcomes_total",
    "headrace_index_items",
    "headrace_index_tail_items",
    "headrace_index_merge_age_seconds",
    "headrace_index_recall_ratio",
    "headrace_model_info",
    "headrace_model_age_seconds",
    "headrace_redis_seconds",
    "headrace_stale_partitions",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
)
#: Series whose buckets keep the mean; all others keep the largest value.
MEANS: Final = ("records:", "replies:", "rungs:", "letters:", "stage:", "clicks:", "reply:half", "recall:")
#: Click rates are of so many of the last points.
CLICK_POINTS: Final = 30
#: z of a 95 % interval.
_Z = 1.959964


def rate_interval(clicks: float, shown: float) -> tuple[float, float, float] | None:
    """Return a click rate and the ends of its 95 % interval (Wilson's); None when nothing was shown."""
    if shown <= 0:
        return None
    rate, z2 = min(1.0, clicks / shown), _Z * _Z
    centre = (rate + z2 / (2 * shown)) / (1 + z2 / shown)
    half = _Z * math.sqrt(rate * (1 - rate) / shown + z2 / (4 * shown * shown)) / (1 + z2 / shown)
    return rate, max(0.0, centre - half), min(1.0, centre + half)


class Clicks:
    """Click rates by ranker over the last points: of one point they would jump."""

    def __init__(self) -> None:
        self._points: deque[tuple[dict[str, float], dict[str, float]]] = deque(maxlen=CLICK_POINTS)

    def add(self, more: Samples) -> dict[str, float]:
        """Add what has grown since the last point; return the click rate of every ranker."""
        self._points.append((_outcomes(more, "shown"), _outcomes(more, "clicked")))
        shown: dict[str, float] = {}
        clicked: dict[str, float] = {}
        for point in self._points:
            for total, part in zip((shown, clicked), point, strict=True):
                for ranker, n in part.items():
                    total[ranker] = total.get(ranker, 0.0) + n
        return {f"clicks:{r}": clicked.get(r, 0.0) / n for r, n in shown.items() if n > 0}


def _outcomes(samples: Samples, outcome: str) -> dict[str, float]:
    key = "headrace_outcomes_total"
    return by_label({k: v for k, v in samples.items() if ("outcome", outcome) in k[1]}, key, "ranker")


def metric_point(now: Sequence[Samples], more: Samples, seconds: float) -> dict[str, float]:
    """Return the values of a point.

    Parameters
    ----------
    now
        The samples of each worker.
    more
        By how much those of all workers grew since the last point.
    seconds
        Since the last point.
    """
    out: dict[str, float] = {}
    if seconds > 0:
        for series, metric, label in (
            ("records", "headrace_records_total", "agent"),
            ("replies", "headrace_replies_total", "outcome"),
            ("rungs", "headrace_rungs_total", "rung"),
            ("letters", "headrace_dead_letters_total", "reason"),
        ):
            for value, n in by_label(more, metric, label).items():
                out[f"{series}:{value}"] = n / seconds
    for name, q in (("half", 0.5), ("slowest 1 %", 0.99)):
        if (found := quantile(more, "headrace_reply_seconds", q)) is not None:
            out[f"reply:{name}"] = found
    out |= _means(more, "headrace_stage_seconds", "stage", "stage")
    if (found := quantile(more, "headrace_redis_seconds", 0.99)) is not None:
        out["redis:slowest 1 %"] = found
    for series, metric, label in (
        ("age", "headrace_model_age_seconds", "model"),
        ("age", "headrace_index_merge_age_seconds", ""),
        ("index", "headrace_index_items", ""),
        ("tail", "headrace_index_tail_items", ""),
    ):
        for value, found in _largest(now, metric, label).items():
            out[f"{series}:{value or 'index'}"] = found
    recalls = [r for one in now for r in by_label(one, "headrace_index_recall_ratio").values()]
    if recalls:
        out["recall:lowest"] = min(recalls)
    return out


def _means(more: Samples, metric: str, label: str, series: str) -> dict[str, float]:
    """Return the mean of a histogram for each value of a label."""
    counts, sums = by_label(more, f"{metric}_count", label), by_label(more, f"{metric}_sum", label)
    return {f"{series}:{value}": sums.get(value, 0.0) / n for value, n in counts.items() if n > 0}


def _largest(now: Sequence[Samples], metric: str, label: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for one in now:
        for value, found in by_label(one, metric, *([label] if label else [])).items():
            out[value] = max(out.get(value, -math.inf), found)
    return out


def letters_table(total: Samples) -> list[dict[str, Any]]:
    """Return the dead letters since the workers began, by agent and reason, the most first."""
    found: dict[tuple[str, str], float] = {}
    for (name, pairs), n in total.items():
        if name == "headrace_dead_letters_total":
            told = dict(pairs)
            key = told.get("agent", ""), told.get("reason", "")
            found[key] = found.get(key, 0.0) + n
    rows = [{"agent": agent, "reason": reason, "letters": int(n)} for (agent, reason), n in found.items()]
    return sorted(rows, key=lambda row: (-row["letters"], row["agent"], row["reason"]))


def clicks_table(total: Samples) -> list[dict[str, Any]]:
    """Return shown slots, clicks and the click rate with its interval, by ranker, since the workers began."""
    shown, clicked = _outcomes(total, "shown"), _outcomes(total, "clicked")
    out = []
    for ranker, n in shown.items():
        found = rate_interval(clicked.get(ranker, 0.0), n)
        rate, low, high = found if found is not None else (None, None, None)
        row = {"ranker": ranker, "shown": int(n), "clicked": int(clicked.get(ranker, 0.0))}
        out.append({**row, "rate": rate, "low": low, "high": high})
    return sorted(out, key=lambda row: -int(row["shown"]))


def worker_row(samples: Samples, more: Samples, seconds: float) -> dict[str, Any]:
    """Return what is told of a worker: its roles, share of a core, memory, models in use."""
    roles = sorted(by_label(samples, "headrace_role_info", "role"))
    cpu = by_label(more, "process_cpu_seconds_total").get("")
    memory = by_label(samples, "process_resident_memory_bytes").get("")
    models = sorted(by_label(samples, "headrace_model_info", "model", "version"))
    return {
        "roles": roles,
        "version": next(iter(by_label(samples, "headrace_role_info", "version")), ""),
        "cpu": cpu / seconds if cpu is not None and seconds > 0 else None,
        "memory": memory,
        "models": models,
    }


def index_table(now: Mapping[str, Samples]) -> list[dict[str, Any]]:
    """Return the hot index of every worker that has one."""
    out = []
    for where, samples in now.items():
        items = by_label(samples, "headrace_index_items").get("")
        if items is not None:
            row: dict[str, Any] = {"worker": where, "items": int(items)}
            for key, metric in (
                ("tail", "headrace_index_tail_items"),
                ("merge_age", "headrace_index_merge_age_seconds"),
                ("recall", "headrace_index_recall_ratio"),
            ):
                row[key] = by_label(samples, metric).get("")
            out.append(row)
    return out
