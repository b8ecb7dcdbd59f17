"""Address and form of a reply, for callers with Faust, Spring Kafka or plain headers. Pure.

| caller | request carries | reply carries |
|---|---|---|
| Faust, ``use_reply_headers`` | ``Faust-Ag-ReplyTo``, ``Faust-Ag-CorrelationId`` | ``ReqRepResponse`` body |
| Faust, default ``agent.ask()`` | ``ReqRepRequest`` body around the request | ``ReqRepResponse`` body |
| Spring | ``kafka_replyTopic``, ``kafka_correlationId``, ``kafka_replyPartition`` | the body as it is |
| plain | ``reply_to``, ``correlation_id`` | the body as it is |

The caller's own correlation header is echoed, and the reply's key is the correlation id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import UNDECODABLE

FAUST_TOPIC, FAUST_ID = "Faust-Ag-ReplyTo", "Faust-Ag-CorrelationId"
SPRING_TOPIC, SPRING_ID = "kafka_replyTopic", "kafka_correlationId"
SPRING_PARTITION = "kafka_replyPartition"
PLAIN_TOPIC, PLAIN_ID = "reply_to", "correlation_id"
#: Header of a request that continues its caller's trace (https://www.w3.org/TR/trace-context/).
TRACEPARENT = "traceparent"

#: A longer correlation id is refused: it would be copied into every reply.
MAX_CORRELATION_BYTES = 1024
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where the reply to a caller goes.

    ``header`` is the name of the correlation header to send back, empty when the caller sent none. ``faust``
    is true when the body must be wrapped as ``agent.ask()`` expects it.
    """

    topic: str
    correlation_id: bytes
    header: str
    partition: int | None = None
    faust: bool = False


class _Tag(msgspec.Struct):
    ns: str = ""


class _FaustRequest(msgspec.Struct):
    value: msgspec.Raw
    reply_to: str
    correlation_id: str
    tag: _Tag = msgspec.field(name="__faust", default_factory=_Tag)


_faust_request = msgspec.json.Decoder(_FaustRequest)


def _wrapped(value: bytes | None, max_bytes: int | None) -> _FaustRequest | None:
    """Return Faust's envelope; None when ``value`` is not one or is larger than ``max_bytes``."""
    if value is None or (max_bytes is not None and len(value) > max_bytes):
        return None
    if b'"@ReqRepRequest"' not in value:
        return None
    try:
        request = _faust_request.decode(value)
    except UNDECODABLE:
        return None
    return request if request.tag.ns == "@ReqRepRequest" else None


def unwrap(value: bytes | None, max_bytes: int | None = None) -> bytes | None:
    """Return the request inside Faust's ``ReqRepRequest`` envelope; any other value is returned as it is.

    A value larger than ``max_bytes`` is returned as it is, too: it will be refused for its size.
    """
    request = _wrapped(value, max_bytes)
    return bytes(request.value) if request is not None else value


def parse_reply_address(
    headers: Iterable[tuple[str, bytes | None]], value: bytes | None = None, max_bytes: int | None = None
) -> ReplyAddress | None:
    """Return the reply address of a request: Faust's if there is one, else Spring's, else the plain one.

    Parameters
    ----------
    headers
        Of the request's record; the last one of a repeated header counts.
    value
        The request's body: Faust's default ``ask()`` puts its address there.
    max_bytes
        A larger body is not searched for an address.

    Returns
    -------
    None when there is no address, or only a malformed one (not a topic name, a correlation id
    that is too long).
    """
    have = {name: content for name, content in headers if content is not None}
    if have.get(FAUST_ID) and (address := _address(have, FAUST_TOPIC, FAUST_ID, faust=True)):
        return address
    if (request := _wrapped(value, max_bytes)) is not None and (address := _enveloped(request)):
        return address
    return _address(have, SPRING_TOPIC, SPRING_ID) or _address(have, PLAIN_TOPIC, PLAIN_ID)


def _enveloped(request: _FaustRequest) -> ReplyAddress | None:
    try:
        have = {FAUST_TOPIC: request.reply_to.encode(), FAUST_ID: request.correlation_id.encode()}
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    return _address(have, FAUST_TOPIC, FAUST_ID, faust=True)


def _address(
    have: dict[str, bytes], topic_header: str, id_header: str, *, faust: bool = False
) -> ReplyAddress | None:
    try:
        topic = have.get(topic_header, b"").decode("ascii")
    except UnicodeDecodeError:
        return None
    correlation_id = have.get(id_header, b"")
    if not _TOPIC.fullmatch(topic) or len(correlation_id) > MAX_CORRELATION_BYTES:
        return None
    partition = None
    if topic_header == SPRING_TOPIC and len(raw := have.get(SPRING_PARTITION, b"")) == 4:
        number = int.from_bytes(raw, "big", signed=True)
        partition = number if number >= 0 else None
    header = id_header if id_header in have else ""
    return ReplyAddress(topic, correlation_id, header, partition, faust)


def allowed(topic: str, patterns: Sequence[str], prefix: str = "") -> bool:
    """Return whether replies may go to ``topic``: ``prefix`` + one of the glob ``patterns``."""
    return any(fnmatchcase(topic, prefix + pattern) for pattern in patterns)


def check_allowed(address: ReplyAddress, patterns: Sequence[str], prefix: str = "") -> None:
    """Raise ``RejectedError`` when the address is outside the allow-list."""
    if not allowed(address.topic, patterns, prefix):
        raise RejectedError(
            "reply_topic_not_allowed", "reply_to", f"replies to topic {address.topic!r} are not allowed"
        )


def format_reply(
    address: ReplyAddress, body: bytes
) -> tuple[str, int | None, bytes | None, bytes, list[tuple[str, bytes]]]:
    """Return ``(topic, partition or None, key, value, headers)`` of the reply.

    Parameters
    ----------
    body
        The reply as JSON; wrapped here where the address asks for it.
    """
    value = body
    if address.faust:
        name = msgspec.json.encode(address.correlation_id.decode("utf-8", "replace"))
        envelope = b'{"key":null,"value":%b,"correlation_id":%b,"__faust":{"ns":"@ReqRepResponse"}}'
        value = envelope % (body, name)
    headers = [(address.header, address.correlation_id)] if address.header else []
    return address.topic, address.partition, address.correlation_id or None, value, headers
