"""What ``headrace dead-letters`` shows: counts, a line for each letter, one letter as a whole. Pure.

Letters hold whatever producers sent. Nothing of it reaches the terminal as a control code, and what is named
like a secret is hidden.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace.streams.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.streams.topics.letter_reader import FoundLetter
    from headrace.streams.topics.redrive import Plan

#: Most characters of a body that are shown, and most groups that are counted apart.
MOST_SHOWN, MOST_GROUPS = 64 * 1024, 1000
HIDDEN = "(hidden)"
_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|authorization|cookie|api.?key|credential", re.I)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")
_UNIT_MS = {"s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def time_of(option: str, text: str, now_ms: int) -> int:
    """Return the time (ms) that a person wrote: an age (``2h``, ``30min``, ``7d``) or a date and time.

    Raises
    ------
    ConfigError
        It is neither; the message names the option.
    """
    if age := _AGE.fullmatch(text.strip()):
        return now_ms - round(float(age[1]) * _UNIT_MS[age[2]])
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{option} {text!r}: write an age (2h, 30min, 7d) or a time (2026-01-31T08:00, UTC)"
        ) from None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def time_text(ms: int) -> str:
    """Return a time for people, UTC; "" when it is not known."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms >= 0 else ""
    except (OverflowError, ValueError, OSError):
        return str(ms)


def safe(text: str) -> str:
    """Return a text in which everything that is not printable is escaped; spaces and line ends stay."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def bytes_text(value: bytes) -> str:
    """Return bytes as text on one line: what is not UTF-8, or not printable, is escaped."""
    return safe(value.decode("utf-8", "backslashreplace")).replace("\n", "\\n")


def without_secrets(value: Any) -> Any:
    """Return a JSON value in which the fields named like a secret are hidden."""
    if isinstance(value, dict):
        return {k: HIDDEN if _SECRET.search(k) else without_secrets(v) for k, v in value.items()}
    return [without_secrets(each) for each in value] if isinstance(value, list) else value


def body_of(value: bytes | None) -> Any:
    """Return the body as a JSON value, when it is one: an object or an array; else as text, or None."""
    if value is None:
        return None
    try:
        parsed = without_secrets(json.loads(value))
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict | list) else bytes_text(value)


@dataclass(slots=True)
class Group:
    """Letters with one reason, field, topic and agent: how many, how many redriven, and when (ms)."""

    reason: str
    field: str
    topic: str
    agent: str
    count: int = 0
    redriven: int = 0
    first_ms: int = -1
    last_ms: int = -1

    def add(self, found: FoundLetter) -> None:
        """Count a letter."""
        self.count += 1
        self.redriven += found.redriven
        self.last_ms = max(self.last_ms, found.written_ms)
        self.first_ms = found.written_ms if self.first_ms < 0 else min(self.first_ms, found.written_ms)


@dataclass
class Counts:
    """Letters counted; memory is bounded, whatever reasons and topics they name."""

    groups: dict[tuple[str, ...], Group] = field(default_factory=dict)

    def add(self, found: FoundLetter) -> None:
        """Count a letter."""
        letter = found.letter
        about = letter.reason, letter.field, letter.topic, letter.agent
        if about not in self.groups and len(self.groups) >= MOST_GROUPS:
            about = ("(others)", "", "", "")
        self.groups.setdefault(about, Group(*about)).add(found)

    def largest(self) -> list[Group]:
        """Return the groups, the largest first."""
        return sorted(self.groups.values(), key=lambda g: (-g.count, g.reason, g.field, g.topic, g.agent))


class Latest:
    """The last letters written, at most ``limit``; bodies are not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[int, int, int, dict[str, Any]]] = []

    def add(self, found: FoundLetter) -> None:
        """Take a letter."""
        at = (found.written_ms, found.partition, found.offset)
        if len(self._heap) >= self._limit and at < self._heap[0][:3]:
            return
        put = heapq.heappush if len(self._heap) < self._limit else heapq.heappushpop
        put(self._heap, (*at, line_of(found)))

    def lines(self) -> list[dict[str, Any]]:
        """Return what is said of each letter, the oldest first."""
        return [line for *_, line in sorted(self._heap, key=lambda entry: entry[:3])]


def line_of(found: FoundLetter) -> dict[str, Any]:
    """Return what the list says of a letter; what a letter of an older version lacks is "" or -1."""
    letter = found.letter
    return {
        "place": found.place,
        "written_ms": found.written_ms,
        "reason": letter.reason,
        "field": letter.field,
        "topic": letter.topic,
        "agent": letter.agent,
        "key": None if letter.key is None else bytes_text(letter.key),
        "bytes": len(letter.value or b""),
        "redriven": found.redriven,
        "times": letter.redriven,
    }


def whole(found: FoundLetter) -> dict[str, Any]:
    """Return everything about a letter, for people and as JSON: nothing secret, no control codes."""
    letter = found.letter
    return {
        **line_of(found),
        "detail": safe(letter.detail),
        "origin": {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "timestamp": letter.timestamp,
        },
        "origin_letter": letter.origin_letter,
        "complete": letter.complete,
        "headers": {
            safe(name): HIDDEN if _SECRET.search(name) else bytes_text(value)
            for name, value in letter.headers
        },
        "body": body_of(letter.value),
    }


def letter_text(about: dict[str, Any]) -> str:
    """Return a letter (of ``whole``) as a page of text."""
    origin = about["origin"]
    lines = {
        "letter": f"{about['place']}, written {time_text(about['written_ms'])}",
        "reason": " ".join(text for text in (about["reason"], about["field"]) if text),
        "detail": about["detail"],
        "agent": about["agent"],
        "record": f"{origin['topic']}-{origin['partition']} offset {origin['offset']}, "
        f"{time_text(origin['timestamp'])}",
        "key": about["key"] if about["key"] is not None else "(none)",
        "redriven": _redriven(about),
        **{f"header {name}": value for name, value in about["headers"].items()},
    }
    body = about["body"]
    if body is None:
        text = "(null)"
    elif isinstance(body, str):
        text = body or ("(empty)" if about["complete"] else "(left out: the record was too large)")
    else:
        text = json.dumps(body, indent=2, ensure_ascii=False)
    if len(text) > MOST_SHOWN:
        text = f"{text[:MOST_SHOWN]}\n... {len(text) - MOST_SHOWN:,} characters more (--json has all)"
    width = max(map(len, lines))
    head = [f"{name:<{width}}  {value}" for name, value in lines.items() if value]
    return safe("\n".join([*head, "", text]))


def _redriven(about: dict[str, Any]) -> str:
    said = ["yes"] if about["redriven"] else []
    if about["origin_letter"]:
        said.append(f"{about['times']} times before, last from letter {about['origin_letter']}")
    return "; ".join(said)


def _table(columns: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[Any]]) -> RenderableType:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    out = Table(box=SIMPLE, pad_edge=False)
    for name in columns:
        out.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        # Text, not markup: letters come from outside.
        out.add_row(*(Text(safe(f"{v:,}" if isinstance(v, int) else str(v))) for v in row))
    return out


def counts_table(groups: Sequence[Group]) -> RenderableType:
    """Return a row for each group."""
    rows = [
        (
            g.reason,
            g.field,
            g.topic,
            g.agent,
            g.count,
            g.redriven,
            time_text(g.first_ms),
            time_text(g.last_ms),
        )
        for g in groups
    ]
    columns = ("reason", "field", "topic", "agent", "letters", "redriven", "first", "last")
    return _table(columns, ("letters", "redriven"), rows)


def lines_table(lines: Sequence[dict[str, Any]]) -> RenderableType:
    """Return a row for each letter (of ``line_of``)."""
    names = ("place", "reason", "field", "topic", "agent", "key", "bytes")
    rows = [
        (
            *("" if line[name] is None else line[name] for name in names),
            "yes" if line["redriven"] else "",
            time_text(line["written_ms"]),
        )
        for line in lines
    ]
    return _table((*names, "redriven", "written"), ("bytes",), rows)


def plan_lines(plan: Plan, *, done: bool) -> list[str]:
    """Return what was redriven, or would be, and why the others are not."""
    from headrace.streams.topics.redrives import WHY

    if done:
        out = [f"written again: {plan.written:,}"]
    else:
        by_topic = ", ".join(f"{count:,} to {topic}" for topic, count in sorted(plan.topics.items()))
        out = [f"would be written again: {len(plan):,}{f' ({by_topic})' if by_topic else ''}"]
    out += [f"left out: {count:,} ({code}: {WHY[code]})" for code, count in plan.left.most_common()]
    if plan.more:
        out.append("there are more letters: this was the --limit; run the command again for them")
    if len(plan) and not done:
        out.append("nothing was written: with --yes they are")
    return out
