"""Turns values of other people's events into those of ours: ids, whole numbers, times. Pure.

Every function returns the value as ours, or raises ``ValueError`` with a sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

#: Characters of an id (``schemas.Id``).
LONGEST_ID: Final = 64
#: Most digits of a number written as a text: it fits into 64 bits.
_DIGITS: Final = 18
#: Units of a number -> milliseconds in one, and by which they are divided.
UNITS: Final[dict[str, tuple[int, int]]] = {
    "s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000), "min": (60_000, 1),
}  # fmt: skip


def text(value: Any) -> str:
    """Return a text; a whole number is written as one, because many ids are numbers."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise ValueError(f"{_kind(value)} where a text is needed")


def event_id(value: Any) -> str:
    """Return an id of an event; one that is too long for us is replaced by its hash."""
    found = text(value)
    return found if len(found) <= LONGEST_ID else hashed(found)


def hashed(long: str) -> str:
    """Return 128 bits that stand for a text, 32 characters."""
    return hashlib.blake2b(long.encode(), digest_size=16).hexdigest()


def whole(value: Any) -> int:
    """Return a whole number, also one that is written as a text or with a fraction of 0."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and len(value) <= _DIGITS and value.isdecimal() and value.isascii():
        return int(value)
    raise ValueError(f"{_shown(value)} is no whole number")


def milliseconds(unit: str) -> Callable[[Any], int]:
    """Return what turns a number of ``unit`` into whole milliseconds, rounded down."""
    times, by = UNITS[unit]

    def convert(value: Any) -> int:
        if type(value) is str:
            value = _number(value)
        if type(value) is int:
            return value * times // by
        if type(value) is float and abs(value) < 1e18:
            return round(value * times / by)
        raise ValueError(f"{_shown(value)} is no number of {unit}")

    return convert


def _number(written: str) -> int | float:
    try:
        return int(written) if written.isdecimal() and len(written) <= _DIGITS else float(written[:40])
    except ValueError:
        raise ValueError(f"{_shown(written)} is no number") from None


def iso(value: Any) -> int:
    """Return the milliseconds of a time as ISO 8601 writes it; without a zone it is UTC."""
    if type(value) is not str:
        raise ValueError(f"{_kind(value)} where a time is needed, as 2026-05-01T12:00:00Z")
    try:
        found = datetime.fromisoformat(value)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000 + 0.5)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is no time as 2026-05-01T12:00:00Z") from None


def time(value: Any) -> int:
    """Return the milliseconds of a time: a text as ISO 8601 has it, or a number of milliseconds."""
    return iso(value) if type(value) is str else milliseconds("ms")(value)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", bool: "true or false", float: "a fraction"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _shown(value: Any) -> str:
    return repr(value)[:64] if isinstance(value, str | int | float) else _kind(value)
