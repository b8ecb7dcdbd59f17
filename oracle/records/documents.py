"""JSON documents: parsed with Python's own parser, checked field by field, without the live decoder's code.

The live system decodes with msgspec (streams/messages/). Both sides must agree on the public contract:
unknown fields are ignored; the last value of a repeated field counts, but all its values must be valid; whole
numbers have no fraction and no exponent; lengths are in characters; null for an optional field is no field.

A *check* takes a parsed value and returns it as it counts, or raises ``RefusedError``. A record may hold any
bytes: ``read_document`` raises nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], Any]


class RefusedError(Exception):
    """A record is not valid. The text is the verdict; readers put it into the column ``verdict``."""


class _Object(list[tuple[str, Any]]):
    """A JSON object as its (name, value) pairs, repeated names included."""


def read_document(body: bytes | None, max_bytes: int, check: Check) -> dict[str, Any]:
    """Return the fields of a JSON document after ``check`` (made by ``struct``) has accepted it.

    Raises
    ------
    RefusedError
        Empty, too large, not JSON, or refused by ``check``.
    """
    found: dict[str, Any] = check(parse_document(body, max_bytes))
    return found


def parse_document(body: bytes | None, max_bytes: int) -> Any:
    """Return a parsed JSON document, for one ``check`` or several.

    Raises
    ------
    RefusedError
        Empty, too large, or not JSON.
    """
    if body is None:
        raise RefusedError("empty")
    if len(body) > max_bytes:
        raise RefusedError("too_large")
    return _parse(body)


# --- JSON ---


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _whole(text: str) -> int:
    # Python refuses to convert thousands of digits. From 40 digits on it is 10**40: all checks refuse it.
    return int(text) if len(text) < 40 else (-1 if text[0] == "-" else 1) * 10**40


_decode = json.JSONDecoder(
    object_pairs_hook=_Object, parse_constant=_no_constant, parse_int=_whole, strict=True
).decode
_escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def _parse(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("utf-8", "surrogateescape")  # allowed in fields that are ignored
    try:
        if "\\u" in text:
            _check_surrogates(text)
        return _decode(text)
    except (ValueError, RecursionError):
        raise RefusedError("undecodable") from None


def _check_surrogates(text: str) -> None:
    """Raise ``ValueError`` for an escaped surrogate without its other half right after or before it."""
    high_ends = -1
    for found in _escape.finditer(text):
        code = int(found[1], 16) if found[1] else 0
        if high_ends >= 0 and not (0xDC00 <= code < 0xE000 and found.start() == high_ends):
            raise ValueError("half a pair")
        if high_ends < 0 and 0xDC00 <= code < 0xE000:
            raise ValueError("half a pair")
        high_ends = found.end() if 0xD800 <= code < 0xDC00 else -1
    if high_ends >= 0:
        raise ValueError("half a pair")


# --- checks ---


def string(low: int = 0, high: int | None = None) -> Check:
    """Return the check of a text of ``low`` to ``high`` characters."""

    def check(value: Any) -> str:
        if type(value) is not str or len(value) < low or (high is not None and len(value) > high):
            raise RefusedError("invalid_field")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise RefusedError("undecodable") from None
        return value

    return check


def number(low: float, high: float, types: tuple[type, ...] = (int,)) -> Check:
    """Return the check of a number of one of ``types`` from ``low`` to ``high``, both included."""

    def check(value: Any) -> Any:
        if type(value) not in types or not low <= value <= high:
            raise RefusedError("invalid_field")
        return value

    return check


def boolean(value: Any) -> bool:
    """Check a truth value."""
    if type(value) is not bool:
        raise RefusedError("invalid_field")
    return value


def choice(*names: str) -> Check:
    """Return the check of a text that must be one of ``names``."""

    def check(value: Any) -> Any:
        if type(value) is not str or value not in names:
            raise RefusedError("invalid_field")
        return value

    return check


def array(inner: Check, high: int) -> Check:
    """Return the check of an array of at most ``high`` values."""

    def check(value: Any) -> list[Any]:
        if type(value) is not list or len(value) > high:
            raise RefusedError("invalid_field")
        return [inner(v) for v in value]

    return check


def struct(required: dict[str, Check], others: dict[str, Check]) -> Check:
    """Return the check of an object; it returns the fields that are named here and present, by name.

    One of ``others`` that is null is absent.
    """
    checks = {**required, **others}

    def check(value: Any) -> dict[str, Any]:
        if type(value) is not _Object:
            raise RefusedError("invalid_field")
        found = {
            name: None if content is None and name in others else checks[name](content)
            for name, content in value
            if name in checks
        }
        if not required.keys() <= found.keys():
            raise RefusedError("missing_field")
        return {name: content for name, content in found.items() if content is not None}

    return check
