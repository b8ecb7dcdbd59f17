"""Dead letters: a record that was rejected, unchanged, with the reason and its origin in headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Prefix of the names of the original record's headers.
ORIGINAL = "original."
#: Largest size of the original headers, in all. Larger ones are left out: the letter would be too large.
MAX_HEADER_BYTES = 32 * 1024
MAX_DETAIL = 1000
#: Header of a record that was redriven: the place of its letter, and how often it was redriven by then.
REDRIVEN = "headrace-redriven"
#: Header of a note of ``headrace dead-letters redrive`` in `dead-letters`: it is no letter.
NOTE = "headrace-redrive"
_REDRIVEN = re.compile(rb"([0-9]{1,9}-[0-9]{1,18})/([0-9]{1,4})")
#: A header of each of these says that a part of the record is not in its letter.
_DROPPED = ("origin-headers-dropped", "origin-body-dropped", "origin-key-dropped")
#: key, value, timestamp (ms, None = now), headers: as `BatchSender` takes them.
Letter: TypeAlias = tuple[bytes | None, bytes | None, int | None, Sequence[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, decoded.

    ``topic``, ``partition``, ``offset``, ``timestamp`` (ms) and ``headers`` are those of the original record:
    to process it again, send ``(key, value, headers)`` to ``topic``.

    ``redriven`` is how often the record was redriven before it was refused; ``origin_letter`` is the place
    (``3-42``: partition and offset) of its letter before that, "" when there was none. ``complete`` says
    whether key, value and headers are all there.
    """

    key: bytes | None
    value: bytes | None
    reason: str
    field: str
    detail: str
    agent: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    headers: tuple[tuple[str, bytes], ...]
    origin_letter: str = ""
    redriven: int = 0
    complete: bool = True


def dead_letter(
    record: Any, topic: str, partition: int, *, agent: str, reason: str, field: str = "", detail: str = ""
) -> tuple[bytes | None, bytes, int | None, list[tuple[str, bytes]]]:
    """Return the dead letter of a record.

    Parameters
    ----------
    record
        The record as it was read: key, value, offset, timestamp (ms), headers.
    topic, partition
        Topic and partition it was read from.
    agent
        Name of the agent that rejected it.
    reason, field, detail
        As in ``RejectedError``: a stable code, the name of the wrong field or "", a sentence.

    Returns
    -------
    ``(key, value, timestamp, headers)`` for the sender. The timestamp is None (the time of writing); the time
    of the original record is in a header.
    """
    headers = [
        ("reason", reason.encode()),
        ("field", field.encode()),
        ("detail", detail[:MAX_DETAIL].encode()),
        ("agent", agent.encode()),
        ("origin-topic", topic.encode()),
        ("origin-partition", b"%d" % partition),
        ("origin-offset", b"%d" % record.offset),
        ("origin-timestamp", b"%d" % record.timestamp),
    ]
    if record.value is None:  # written as an empty value: a record needs a key or a value
        headers.append(("origin-null", b"1"))
    if (before := redriven_from(record)) is not None:
        headers += [("origin-letter", before[0].encode()), ("redriven", b"%d" % before[1])]
    headers += _kept(record.headers)
    return record.key, record.value if record.value is not None else b"", None, headers


def _kept(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    kept = [(ORIGINAL + name, value or b"") for name, value in headers if name != REDRIVEN]
    size = sum(len(name) + len(value) for name, value in kept)
    return kept if size <= MAX_HEADER_BYTES else [("origin-headers-dropped", b"%d" % size)]


def redriven_from(record: Any) -> tuple[str, int] | None:
    """Return the place of the letter that a record was redriven from, and how often it was; else None."""
    for name, value in record.headers:
        if name == REDRIVEN and (told := _REDRIVEN.fullmatch(value or b"")):
            return told[1].decode(), int(told[2])
    return None


def is_letter(record: Any) -> bool:
    """Return whether a record of the dead-letters topic is a letter, not a note of what was redriven."""
    return all(name != NOTE for name, _ in record.headers)


def read_dead_letter(record: Any) -> DeadLetter:
    """Decode a record of the dead-letters topic; headers that are missing are "" or -1."""
    have = {name: value or b"" for name, value in record.headers}

    def text(name: str) -> str:
        return have.get(name, b"").decode("utf-8", "replace")

    def number(name: str) -> int:
        try:
            return int(have[name])
        except (KeyError, ValueError):
            return -1

    return DeadLetter(
        key=record.key,
        value=None if "origin-null" in have else record.value,
        reason=text("reason"),
        field=text("field"),
        detail=text("detail"),
        agent=text("agent"),
        topic=text("origin-topic"),
        partition=number("origin-partition"),
        offset=number("origin-offset"),
        timestamp=number("origin-timestamp"),
        headers=tuple(
            (name[len(ORIGINAL) :], value or b"")
            for name, value in record.headers
            if name.startswith(ORIGINAL)
        ),
        origin_letter=text("origin-letter"),
        redriven=max(0, number("redriven")),
        complete=not any(name in have for name in _DROPPED),
    )


def fitting(letter: Letter, max_bytes: int) -> Letter:
    """Return a dead letter of at most ``max_bytes``: unchanged, without its value, or also without its key.

    See ``without_body``.
    """
    for shape in (letter, without_body(letter)):
        key, value, _, headers = shape
        size = 256 + len(key or b"") + len(value or b"")
        size += sum(len(name) * 4 + len(content) + 16 for name, content in headers)
        if size <= max_bytes:
            return shape
    return without_body(letter, bare=True)


def without_body(letter: Letter, *, bare: bool = False) -> Letter:
    """Return a dead letter without the original value; the header ``origin-body-dropped`` has its size.

    With ``bare``, the key and the headers of the original record are left out too.
    """
    key, value, timestamp, headers = letter
    kept = [h for h in headers if not (bare and h[0].startswith(ORIGINAL))]
    kept.append(("origin-body-dropped", b"%d" % len(value or b"")))
    if bare and key is not None:
        key = None
        kept.append(("origin-key-dropped", b"%d" % len(letter[0] or b"")))
    return key, b"", timestamp, kept
