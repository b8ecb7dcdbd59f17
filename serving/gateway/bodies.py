"""Reads what a request of HTTP carries: its body within bounds, ids in its path, its query."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request

from headrace.serving.gateway.faults import FaultError
from headrace.streams.errors import RejectedError

JSON_TYPES = frozenset({"application/json"})
LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
#: Most parameters of one query: the longest list of ids a request may have, and room.
MOST_PARAMETERS = 6000


def media_type(request: Request, allowed: Collection[str]) -> str:
    """Return the type of the body; raise ``FaultError`` when it is not allowed.

    A browser asks first before a page of another site may send one of these types: so no such page can write.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        raise FaultError("media_type", f"Content-Type must be {' or '.join(sorted(allowed))}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise FaultError("media_type", "a compressed body is not read: send it without Content-Encoding")
    return kind


async def read_body(request: Request, most_bytes: int, most_s: float) -> bytes:
    """Return the body.

    Raises
    ------
    FaultError
        ``too_large`` above ``most_bytes``, read no further; ``slow_body`` when it takes longer than
        ``most_s`` seconds.
    """
    told = request.headers.get("content-length", "0")
    if told.isdigit() and int(told) > most_bytes:
        raise FaultError("too_large", f"{told} bytes, at most {most_bytes} are accepted")
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(most_s):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most_bytes:
                    raise FaultError("too_large", f"more than {most_bytes} bytes are not accepted")
    except TimeoutError:
        raise FaultError("slow_body", f"the body did not arrive within {most_s:g} s") from None
    except ClientDisconnect:
        raise FaultError("slow_body", "the connection ended before the body did") from None
    return b"".join(parts)


class _AnyText(Convertor[str]):
    """The rest of a path, with slashes and line breaks: an id may have them, encoded."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return it."""
        return value

    def to_string(self, value: str) -> str:
        """Return it."""
        return value


register_url_convertor("any", _AnyText())


def id_in_path(request: Request, field: str) -> str:
    """Return the id after the first segment of the path: everything there, also encoded slashes and dots.

    Raises
    ------
    RejectedError
        When it is empty, longer than an id may be, or no UTF-8.
    """
    raw: bytes = request.scope["raw_path"]
    try:
        text = unquote_to_bytes(raw.split(b"/", 2)[2]).decode()
    except UnicodeDecodeError:
        raise RejectedError("invalid_field", field, "the id in the path is not UTF-8") from None
    if not 1 <= len(text) <= 64:
        raise RejectedError("invalid_field", field, f"an id has 1 to 64 characters, this one {len(text)}")
    return text


def query_of(request: Request) -> list[tuple[str, str]]:
    """Return the parameters of the query in their order; raise ``RejectedError`` for what is no UTF-8."""
    raw: bytes = request.scope["query_string"]
    try:
        return parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except ValueError as exc:  # also UnicodeDecodeError
        raise RejectedError("undecodable", "", f"the query is not understood: {exc}") from None
