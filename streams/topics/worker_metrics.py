"""Reads the metrics that workers serve, in the text format of Prometheus, with no more than Python."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from headrace.streams.errors import ConfigError

#: Longest wait for the metrics of a worker, s, and most bytes that are read of them.
ANSWER_S = 3.0
MOST_BYTES = 8 * 1024 * 1024
_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Seen(NamedTuple):
    """One sample."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """The metrics of one process at one time.

    Attributes
    ----------
    at_s
        When, s since the epoch.
    samples
        All of them.
    """

    at_s: float
    samples: tuple[Seen, ...]

    def sum(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples with these labels, None without any."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def values(self, name: str, label: str) -> dict[str, float]:
        """Return the sums of the samples by the value of one label."""
        out: dict[str, float] = {}
        for s in self.samples:
            if s.name == name and label in s.labels:
                out[s.labels[label]] = out.get(s.labels[label], 0.0) + s.value
        return out

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the process."""
        return tuple(sorted(self.values("headrace_role_info", "role")))


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker told at the beginning and at the end of a window; of one that did not answer both: None.

    A process that began anew in between counts from 0.
    """

    url: str
    first: Scrape | None
    last: Scrape | None

    @property
    def answers(self) -> bool:
        """Whether it answered at the end."""
        return self.last is not None

    @property
    def seconds(self) -> float:
        """Time between the two, s."""
        return self.last.at_s - self.first.at_s if self.first and self.last else 0.0

    @property
    def restarted(self) -> bool:
        """Whether the process began anew in the window."""
        if self.first is None or self.last is None:
            return False
        began = "process_start_time_seconds"
        return self.first.sum(began) != self.last.sum(began)

    def grown(self, name: str, **labels: str) -> float | None:
        """Return by how much counters with these labels grew, None when that is not known."""
        if self.first is None or self.last is None:
            return None
        after = self.last.sum(name, **labels)
        before = 0.0 if self.restarted else self.first.sum(name, **labels) or 0.0
        return None if after is None else after - before

    def grown_by(self, name: str, label: str) -> dict[str, float]:
        """Return by how much counters grew, by the value of one label; those that did."""
        if self.first is None or self.last is None:
            return {}
        before = {} if self.restarted else self.first.values(name, label)
        after = self.last.values(name, label)
        return {key: grew for key, value in after.items() if (grew := value - before.get(key, 0.0)) > 0}


def parse(text: str) -> tuple[Seen, ...]:
    """Read the text format. What is no sample is passed over."""
    out = []
    for line in text.splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        name, labels, value = found.groups()
        try:
            out.append(Seen(name, dict(_LABEL.findall(labels or "")), float(value)))
        except ValueError:
            continue
    return tuple(out)


def checked_url(text: str) -> str:
    """Return the URL of the metrics of a worker; ``host:port`` is enough.

    Raises
    ------
    ConfigError
        When it is none.
    """
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError(f"--metrics {text}: write http://host:port/metrics, or host:port")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/metrics"


async def scrape(urls: Sequence[str], at_s: float) -> dict[str, Scrape | None]:
    """Ask workers for their metrics, all at once; None for one that does not answer in time."""
    texts = await asyncio.gather(*(asyncio.to_thread(_read, url) for url in urls))
    return {
        url: None if text is None else Scrape(at_s, parse(text))
        for url, text in zip(urls, texts, strict=True)
    }


def _read(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:  # noqa: S310 - the scheme was checked
            text: bytes = answer.read(MOST_BYTES)
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return text.decode("utf-8", "replace")
