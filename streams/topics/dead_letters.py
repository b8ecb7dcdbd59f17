"""Dead letters: a record we could not process, whole, with what was wrong and where it was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Before the names of the original record's own headers.
ORIGINAL = "original."
#: The original headers are kept up to this many bytes in all: the letter must fit where the record did.
MAX_HEADER_BYTES = 32 * 1024
MAX_DETAIL = 1000
#: key, value, timestamp (ms, None = now), headers: as `BatchSender` takes them.
Letter: TypeAlias = tuple[bytes | None, bytes | None, int | None, Sequence[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter read back.

    ``offset`` and ``timestamp`` are the origin's; ``headers`` are the original record's, so that sending
    ``(key, value, headers)`` to ``topic`` again redrives it.
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


def dead_letter(
    record: Any, topic: str, partition: int, *, agent: str, reason: str, field: str = "", detail: str = ""
) -> tuple[bytes | None, bytes, int | None, list[tuple[str, bytes]]]:
    """Return ``(key, value, timestamp, headers)`` to write to the dead-letters topic.

    Parameters
    ----------
    record
        The record as it was read: key, value, offset, timestamp (ms), headers.
    topic, partition
        Where it was read.
    agent
        Who gave up on it.
    reason, field, detail
        Of the ``RejectedError``: a stable code, the offending field or "", a sentence.

    Returns
    -------
    The timestamp is None: a letter is dated when it is written; the origin's time is in a header.
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
    if record.value is None:  # not the same as an empty value; without key and value nothing can be sent
        headers.append(("origin-null", b"1"))
    headers += _kept(record.headers)
    return record.key, record.value if record.value is not None else b"", None, headers


def _kept(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    kept = [(ORIGINAL + name, value or b"") for name, value in headers]
    size = sum(len(name) + len(value) for name, value in kept)
    return kept if size <= MAX_HEADER_BYTES else [("origin-headers-dropped", b"%d" % size)]


def read_dead_letter(record: Any) -> DeadLetter:
    """Read a record of the dead-letters topic; what a foreign writer left out is empty or -1."""
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
    )


def fitting(letter: Letter, max_bytes: int) -> Letter:
    """Return a dead letter as it is, or with as much left out as makes it fit into ``max_bytes``."""
    for shape in (letter, without_body(letter)):
        key, value, _, headers = shape
        size = 256 + len(key or b"") + len(value or b"")
        size += sum(len(name) * 4 + len(content) + 16 for name, content in headers)
        if size <= max_bytes:
            return shape
    return without_body(letter, bare=True)


def without_body(letter: Letter, *, bare: bool = False) -> Letter:
    """Return a dead letter without the original value, whose size is told in ``origin-body-dropped``.

    A ``bare`` one has lost its key and the record's own headers, too.
    """
    key, value, timestamp, headers = letter
    kept = [h for h in headers if not (bare and h[0].startswith(ORIGINAL))]
    kept.append(("origin-body-dropped", b"%d" % len(value or b"")))
    if bare and key is not None:
        key = None
        kept.append(("origin-key-dropped", b"%d" % len(letter[0] or b"")))
    return key, b"", timestamp, kept
