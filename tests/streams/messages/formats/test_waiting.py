"""Schemas that the registry does not have are waited for, and given up. The clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foreign_forms import Forms, wire
from schema_registry import SchemaRegistry, running

from headrace.streams.errors import NotYetError, RejectedError, UnavailableError
from headrace.streams.messages.formats import published
from headrace.streams.messages.formats.registry import Registry
from headrace.streams.messages.formats.schemas import (
    MOST_AWAITED,
    MOST_UNKNOWN,
    PATIENCE_S,
    UNKNOWN_S,
    Schemas,
)
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings

EVENT = Event("e-1", "click", "user-42", "item-1", 1_767_225_600_250)


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with running() as registry:
        yield registry


def of(url: str, folder: Path) -> Registry:
    return Registry(Settings(events_format="detect", registry_url=url), folder)


def record(value: bytes) -> Any:
    return SimpleNamespace(value=value)


def refused(schemas: Schemas, number: int) -> str:
    with pytest.raises(RejectedError) as caught:
        schemas.read(wire(number, b"x"))
    return caught.value.reason


def test_a_schema_that_is_not_there_yet_is_waited_for_and_then_given_up(
    server: SchemaRegistry, tmp_path: Path
) -> None:
    """With a clock of the test: the registry may hear of a new schema a moment after its record came."""
    schemas, forms = Schemas(of(server.url, tmp_path)), Forms(server)
    good = record(forms.avro(EVENT)[1])
    bad = [record(b"\0\0\0\0" + bytes([n]) + b"x") for n in (200, 201)]
    assert schemas.missing([good, *bad, record(b"{}"), record(b"\0x")], 100, 0.0) == {forms.avro_id, 200, 201}
    with pytest.raises(NotYetError, match="no schema 200 yet"):
        schemas.load({forms.avro_id, 200, 201}, 0.0)
    assert schemas.missing([good, *bad], 100, 0.0) == {200, 201}
    assert schemas.missing([good, *bad], 5, 0.0) == set()  # too large: not read
    with pytest.raises(NotYetError):
        schemas.load({200, 201}, PATIENCE_S - 0.01)
    schemas.load({200, 201}, PATIENCE_S)
    assert schemas.missing(bad, 100, PATIENCE_S) == set()
    with pytest.raises(RejectedError) as caught:
        schemas.read(bad[0].value)
    assert caught.value.reason == "unknown_schema"
    schemas.load({202}, PATIENCE_S + 1)  # garbage has any id: no second wait within a minute
    late = PATIENCE_S + UNKNOWN_S + 1
    assert schemas.missing(bad, 100, late) == {200, 201}
    assert schemas.read(good.value)[1]


def test_a_batch_of_more_unknown_ids_than_are_remembered_comes_to_an_end(
    server: SchemaRegistry, tmp_path: Path
) -> None:
    schemas, ids = Schemas(of(server.url, tmp_path)), set(range(1, MOST_UNKNOWN + 51))
    left = schemas.missing([record(wire(number, b"x")) for number in ids], 100, 0.0)
    assert left == ids
    with pytest.raises(NotYetError):
        schemas.load(left, 0.0)
    assert len(server.asked) == MOST_AWAITED  # not one connection for each of them, every time
    schemas.load(left, PATIENCE_S)
    assert left == set()
    assert {refused(schemas, number) for number in ids} == {"unknown_schema"}


def test_what_is_clear_is_not_asked_for_again_when_the_registry_goes_away(
    server: SchemaRegistry, tmp_path: Path
) -> None:
    schemas, forms = Schemas(of(server.url, tmp_path)), Forms(server)
    left = {forms.avro_id, 200}
    with pytest.raises(NotYetError):
        schemas.load(left, 0.0)
    assert left == {200}
    server.broken = 503
    with pytest.raises(UnavailableError, match="503"):
        schemas.load(left, PATIENCE_S)
    server.broken = 0
    schemas.load(left, PATIENCE_S + 1)
    assert left == set()
    assert server.asked.count(f"/schemas/ids/{forms.avro_id}") == 1


def test_an_id_that_no_registry_can_have_is_not_asked_for(server: SchemaRegistry, tmp_path: Path) -> None:
    """A registry answers to it as to a path that it does not know, which looks like an outage."""
    registry, largest = of(server.url, tmp_path), (1 << 31) - 1
    with pytest.raises(UnavailableError, match="404"):
        registry.schema(largest + 1)
    schemas = Schemas(registry)
    batch = [record(wire(number, b"x")) for number in (largest, largest + 1, (1 << 32) - 1)]
    assert schemas.missing(batch, 100, 0.0) == {largest}
    assert refused(schemas, largest + 1) == "unknown_schema"


def test_garbage_makes_a_new_schema_unknown_for_a_moment_only(server: SchemaRegistry, tmp_path: Path) -> None:
    """An id that was given up without a wait of its own is asked for again soon."""
    schemas, began = Schemas(of(server.url, tmp_path)), 100.0
    with pytest.raises(NotYetError):
        schemas.load({500}, began)
    given_up = began + PATIENCE_S
    schemas.load({500}, given_up)
    number, value = 1, record(wire(1, b"x"))
    schemas.load({number}, given_up + 1)  # its schema is not there yet, and is not waited for
    assert schemas.missing([value], 100, given_up + 1) == set()
    assert refused(schemas, number) == "unknown_schema"
    assert server.register("events-value", published.avsc()) == number
    later = given_up + 1 + PATIENCE_S
    assert schemas.missing([value, record(wire(500, b"x"))], 100, later) == {number}
    schemas.load({number}, later)
    assert refused(schemas, number) == "undecodable"
    # Garbage that goes on does not keep others from being waited for.
    schemas.load({501}, given_up + UNKNOWN_S - 1)
    with pytest.raises(NotYetError):
        schemas.load({502}, given_up + UNKNOWN_S)
