"""The contract of the gateway as an OpenAPI 3.1 document, from the types and the table of routes here."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from headrace.serving.gateway.answers import EventsAnswer, Written
from headrace.serving.gateway.bulk import MOST, BulkAnswer
from headrace.serving.gateway.faults import LATER, STATUS, Fault
from headrace.serving.gateway.kept import KeptItem, KeptUser
from headrace.serving.gateway.requests import PARAMETERS
from headrace.streams.messages.contract import json_schemas
from headrace.streams.messages.nulls import nullable
from headrace.streams.messages.schemas import Context, Event, Item, RecReply, RecRequest, UserProfile

_REF = "#/components/schemas/{name}"
_READ: tuple[type[msgspec.Struct], ...] = (Event, Item, UserProfile, RecRequest)
_WRITTEN = (RecReply, BulkAnswer, EventsAnswer, Written, KeptUser, KeptItem, Fault)
#: Fields of bodies that may be left out: the path has them, or the gateway makes one.
_GIVEN = {"Item": "item_id", "UserProfile": "user_id", "RecRequest": "request_id"}

#: Statuses that every answer may have, except those that need no token.
_EVERYWHERE = (400, 401, 431, 500, 503)
_TEXT = {
    200: "done",
    207: "some were taken, or answered; the body says which",
    400: "refused; `error.field` names the field",
    401: "the bearer token is missing or wrong",
    404: "nothing is kept of this id",
    408: "the body did not arrive in time",
    413: "the body or a message in it is too large",
    415: "another Content-Type than those here, or a compressed body",
    429: "more lists than this caller may ask for; try again after `Retry-After`",
    431: "path, query and headers are too large",
    500: "an error in Headrace",
    503: "broker or store away, or too many requests; try again after `Retry-After`",
    504: "no reply in time",
}


def document() -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace gateway",
            "version": "1",
            "description": "Lists, events, items and profiles over HTTP: docs/gateway.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "security": [{"token": []}, {}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _schemas() -> dict[str, Any]:
    components = json_schemas(_WRITTEN, _REF)
    # What is read may have nulls; where an answer has the same message, it has none, and fits, too.
    components |= json_schemas([nullable(kind) for kind in _READ], _REF)
    for name, field in _GIVEN.items():
        copy = components[f"{name}Body"] = {**components[name], "title": f"{name}Body"}
        copy["required"] = [required for required in copy["required"] if required != field]
        copy["properties"] = {**copy["properties"]}
        copy["properties"][field] = {"anyOf": [copy["properties"][field], {"type": "null"}]}
    ranked = components["RankBody"] = {**components["RecRequestBody"], "title": "RankBody"}
    ranked["required"] = [*ranked["required"], "candidates"]
    # What the codes of errors are is said by the contract; a client must not fail at a new one.
    components["ErrorInfo"]["description"] = f"Codes beside those of messages: {', '.join(sorted(STATUS))}."
    return dict(sorted(components.items()))


def _paths() -> dict[str, Any]:
    body = (408, 413, 415)
    return {
        "/recommendations": {
            "get": _operation(
                "recommend", "A list for a user", "RecReply", (413, 429, 504), parameters=_query()
            ),
            "post": _operation(
                "recommendByBody",
                "The same, with a whole request",
                "RecReply",
                (*body, 429, 504),
                body="RecRequestBody",
            ),
        },
        "/rank": {
            "post": _operation(
                "rank",
                "The caller's own candidates, ranked",
                "RecReply",
                (*body, 429, 504),
                body="RankBody",
            ),
        },
        "/bulk": {
            "post": _many(
                "recommendInBulk",
                "Many lists, made while no other request waits",
                ("RecRequestBody", "request"),
                "BulkAnswer",
                (*body, 504),
                (400, 413, 500, 503, 504),
            )
        },
        "/events": {"post": _many("takeEvents", "Events of users", ("Event", "event"), "EventsAnswer", body)},
        "/items/{item_id}": _rows("item_id", "Item", "an item of the catalogue", body),
        "/users/{user_id}": _rows("user_id", "UserProfile", "the profile of a user", body),
        "/health": {"get": _open("health", "The process lives", (200,))},
        "/ready": {"get": _open("ready", "The broker answers, and replies are read", (200, 503))},
        "/openapi.json": {"get": _operation("describe", "This document", None, ())},
    }


def _open(name: str, text: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    responses = {str(status): _response(status, None) for status in statuses}
    return {**_operation(name, text, None, ()), "responses": responses, "security": []}


def _operation(
    name: str,
    text: str,
    schema: str | None,
    statuses: tuple[int, ...],
    *,
    parameters: list[Any] | None = None,
    body: str | None = None,
) -> dict[str, Any]:
    out: dict[str, Any] = {"operationId": name, "summary": text}
    if parameters:
        out["parameters"] = parameters
    if body:
        content = {"application/json": {"schema": _ref(body)}}
        out["requestBody"] = {"required": True, "content": content}
    every = sorted({200, *_EVERYWHERE, *statuses})
    out["responses"] = {str(status): _response(status, schema) for status in every}
    return out


def _response(status: int, schema: str | None) -> dict[str, Any]:
    shape = (_ref(schema) if schema else {"type": "object"}) if status < 300 else _ref("Fault")
    out: dict[str, Any] = {"description": _TEXT[status], "content": {"application/json": {"schema": shape}}}
    if status in LATER:
        seconds = {"description": "seconds", "schema": {"type": "integer"}}
        out["headers"] = {"Retry-After": seconds}
    return out


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _query() -> list[dict[str, Any]]:
    """Return the parameters of a request in a query."""
    hints = get_type_hints(RecRequest, include_extras=True)
    nested = get_type_hints(Context, include_extras=True)
    needed = {"user_id", "surface"}
    return [
        {
            "name": name,
            "in": "query",
            "required": name in needed,
            "schema": _schema(nested[name] if parameter.nested else hints[name]),
        }
        for name, parameter in PARAMETERS.items()
    ]


def _schema(type_: Any) -> dict[str, Any]:
    """Return the schema of a single value or of a list of them, without null."""
    shape = msgspec.json.schema(type_)
    kinds = [kind for kind in shape.get("anyOf", [shape]) if kind.get("type") != "null"]
    return dict(kinds[0])


def _many(
    name: str,
    text: str,
    message: tuple[str, str],
    schema: str,
    statuses: tuple[int, ...],
    either: tuple[int, ...] = (400, 503),
) -> dict[str, Any]:
    """Return an operation on one message, an array of them, or one on each line.

    Parameters
    ----------
    message
        Its name, and what it is.
    either
        Statuses when all were refused, or the request as a whole.
    """
    body, what = message
    out = _operation(name, text, schema, statuses, body=body)
    one = _ref(body)
    content = out["requestBody"]["content"]
    many: dict[str, Any] = {"type": "array", "items": one}
    if schema == "BulkAnswer":
        many["maxItems"] = MOST
    content["application/json"]["schema"] = {"anyOf": [one, many]}
    content["application/x-ndjson"] = {
        "schema": {"type": "string", "description": f"one {what} on each line"}
    }
    out["responses"]["207"] = _response(207, schema)
    for status in map(str, either):
        shape = {"anyOf": [_ref(schema), _ref("Fault")]}
        out["responses"][status]["content"]["application/json"]["schema"] = shape
    return out


def _rows(field: str, message: str, what: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    path = {
        "name": field,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    }
    read = (404, 504)
    names = {
        "name": "names",
        "in": "query",
        "required": False,
        "schema": {"type": "boolean", "default": True},
    }
    kept = "KeptItem" if message == "Item" else "KeptUser"
    return {
        "parameters": [path],
        "get": _operation(
            f"read{message}",
            f"What is kept of {what}",
            kept,
            read,
            parameters=[names] if kept == "KeptUser" else None,
        ),
        "put": _operation(f"put{message}", f"Write {what}", "Written", statuses, body=f"{message}Body"),
        "delete": _operation(f"delete{message}", f"Write a tombstone for {what}", "Written", ()),
    }
