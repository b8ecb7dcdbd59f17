"""Requests for lists as they come over HTTP: a query or a body, into the JSON of the request topic.

The names of a query follow from ``RecRequest``: single values and lists of single values, those of
``context`` beside the others. Fields of other kinds are only in bodies.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from headrace.serving.gateway.records import Fresh, with_field
from headrace.serving.requests.address import PLAIN_ID, PLAIN_TOPIC
from headrace.serving.requests.read import RequestReader
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import rejection
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings

_SINGLE = (inspect.StrType, inspect.IntType, inspect.FloatType, inspect.BoolType, inspect.LiteralType)
_NESTED = "context"


class Parameter(NamedTuple):
    """A field of a request that may be in a query: whether it is in ``context``, whether it is a list."""

    nested: bool
    many: bool


def _kind(type_: inspect.Type) -> inspect.Type:
    """Return a type without ``Annotated`` and without ``| None``."""
    if isinstance(type_, inspect.Metadata):
        return _kind(type_.type)
    if isinstance(type_, inspect.UnionType):
        return _kind(next(t for t in type_.types if not isinstance(t, inspect.NoneType)))
    return type_


def _parameters(type_: Any, nested: bool = False) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    shape = inspect.type_info(type_)
    assert isinstance(shape, inspect.StructType)  # noqa: S101 - messages are structs
    for field in shape.fields:
        kind = _kind(field.type)
        if isinstance(kind, inspect.StructType) and field.encode_name == _NESTED and not nested:
            found |= _parameters(kind.cls, nested=True)
        elif isinstance(kind, inspect.ListType) and isinstance(_kind(kind.item_type), _SINGLE):
            found[field.encode_name] = Parameter(nested, many=True)
        elif isinstance(kind, _SINGLE):
            found[field.encode_name] = Parameter(nested, many=False)
    return found


#: Name in a query -> what it is.
PARAMETERS = _parameters(RecRequest)
_ONLY_IN_BODIES = frozenset(field.encode_name for field in msgspec.structs.fields(RecRequest)) - set(
    PARAMETERS
)


class Asked(NamedTuple):
    """A request that is correct: its JSON, and what the gateway needs of it."""

    body: bytes
    request: RecRequest


def new_request_id() -> str:
    """Return an id for a request that has none."""
    return f"http-{secrets.token_hex(10)}"


class RequestIn:
    """Reads requests for lists: by the reader of the request topic, so with its checks and its reasons.

    Parameters
    ----------
    settings
        Limits of messages, and where replies may go.
    clock
        The time that the record will have.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        self._reader = RequestReader(settings)
        self._clock = clock
        topic = settings.name(f"rec-replies-{settings.gateway_name}")
        self._headers = [(PLAIN_TOPIC, topic.encode()), (PLAIN_ID, b"-")]

    def _asked(self, body: bytes) -> Asked:
        record = Fresh(None, body, self._clock.now_ms(), headers=self._headers)
        jobs, rejects = self._reader.read([record])
        if rejects:
            raise rejects[0][2]
        return Asked(body, jobs[0][0])

    def from_body(self, body: bytes) -> Asked:
        """Return the request in a body; one without ``request_id`` gets one. Raises ``RejectedError``."""
        body = with_field(body, "request_id", new_request_id())
        return self._asked(body)

    def refusal(self, body: bytes, error: RejectedError) -> RecReply:
        """Return the reply to a request that is refused, with its id if it can be read."""
        return self._reader.error_reply(Fresh(None, body), error)

    def from_query(self, query: Sequence[tuple[str, str]]) -> Asked:
        """Return the request in a query; the same ``context`` fields are beside the others.

        Raises
        ------
        RejectedError
            ``field`` is the name in the query.
        """
        values: dict[str, Any] = {"request_id": new_request_id(), _NESTED: {}}
        seen: set[str] = set()
        for name, text in query:
            parameter = PARAMETERS.get(name)
            if parameter is None:
                if name in _ONLY_IN_BODIES:
                    raise RejectedError(
                        "invalid_field", name, f"{name} is only possible in the body of a POST"
                    )
                continue  # as unknown fields of a message
            into = values[_NESTED] if parameter.nested else values
            if parameter.many:
                into.setdefault(name, []).append(text)
            elif name in seen:
                raise RejectedError("invalid_field", name, f"{name} is there twice")
            else:
                into[name] = text
            seen.add(name)
        try:
            request = msgspec.convert(values, RecRequest, strict=False)
        except msgspec.ValidationError as exc:
            raise _in_query(rejection(exc)) from exc
        told = {name: getattr(request, name) for name in values}
        told[_NESTED] = {name: getattr(request.context, name) for name in values[_NESTED]}
        try:
            return self._asked(msgspec.json.encode(told))
        except RejectedError as exc:
            raise _in_query(exc) from exc


def _in_query(refused: RejectedError) -> RejectedError:
    """Return a refusal with the field's name in a query."""
    return RejectedError(refused.reason, refused.field.removeprefix(f"{_NESTED}."), refused.detail)
