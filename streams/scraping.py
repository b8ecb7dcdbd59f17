"""Reads the metrics of workers: what a list of targets means, what a page says, what has grown. Pure.

Counters begin at 0 when a worker starts. So what has grown is found worker by worker, and then summed up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from headrace.streams.errors import ConfigError

#: Labels of a sample, sorted by name.
Labels: TypeAlias = "tuple[tuple[str, str], ...]"
#: (name of a sample, its labels) -> value.
Samples: TypeAlias = "dict[tuple[str, Labels], float]"

_TARGET = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class Target(NamedTuple):
    """Where a worker, or several with one name, serve their metrics."""

    host: str
    port: int


def targets_of(texts: Sequence[str]) -> list[Target]:
    """Return the targets of ``host:port`` texts; raise ``ConfigError`` for another text."""
    out = []
    for text in texts:
        found = _TARGET.fullmatch(text)
        if found is None or not 0 < int(found[2]) < 65536:
            raise ConfigError(f"HEADRACE_MONITOR_TARGETS: write host:port, comma-separated, not {text!r}")
        out.append(Target(found[1].strip("[]"), int(found[2])))
    return out


def read_samples(text: str, wanted: tuple[str, ...]) -> Samples:
    """Return the samples whose names begin with one of ``wanted``; raise ``ValueError`` for a bad page.

    The other lines are not parsed: a page has a thousand, and few of them are wanted.
    """
    lines = "\n".join(line for line in text.splitlines() if line.startswith(wanted)) + "\n"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(lines)
        for sample in family.samples
    }


def grown(before: Samples | None, now: Samples) -> Samples:
    """Return by how much each sample of a worker grew. After a restart of the worker, it is its value.

    Nothing is known of the time before a worker was first seen. A sample that a known worker did not have
    before has grown from 0.
    """
    if before is None:
        return {}
    return {
        key: value - held if value >= (held := before.get(key, 0.0)) else value for key, value in now.items()
    }


def summed(parts: Iterable[Samples]) -> Samples:
    """Return the sums of the samples of several workers."""
    out: Samples = {}
    for part in parts:
        for key, value in part.items():
            out[key] = out.get(key, 0.0) + value
    return out


def by_label(samples: Mapping[tuple[str, Labels], float], name: str, *labels: str) -> dict[str, float]:
    """Return the sums of a metric by the values of some labels, written ``a b`` when there are several."""
    out: dict[str, float] = {}
    for (sample, pairs), value in samples.items():
        if sample == name:
            told = dict(pairs)
            key = " ".join(told.get(label, "") for label in labels)
            out[key] = out.get(key, 0.0) + value
    return out


def quantile(samples: Samples, name: str, q: float, **only: str) -> float | None:
    """Return a quantile of a histogram that has grown, interpolated; None when it has not.

    What is over the last bound counts as that bound, as Prometheus has it.
    """
    counts: dict[float, float] = {}
    for (sample, pairs), value in samples.items():
        labels = dict(pairs)
        if sample == f"{name}_bucket" and only.items() <= labels.items():
            bound = float(labels["le"])
            counts[bound] = counts.get(bound, 0.0) + value
    bounds = sorted(counts)
    total = counts[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    low, under = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= q * total:
            inside = counts[bound] - under
            if bound == float("inf") or inside <= 0:
                return low
            return low + (bound - low) * (q * total - under) / inside
        low, under = bound, counts[bound]
    return low
