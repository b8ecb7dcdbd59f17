"""Schemathesis fuzzes a running gateway by its OpenAPI document, with good data and with bad."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from fresh_topics import make_topics
from gateways import TOKEN, gateway, url_of, with_gateway
from hypothesis import HealthCheck, Phase, given, seed, settings
from installation import ITEMS, producer, publish
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from headrace.serving.gateway.openapi import document
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

#: Examples of each operation and kind of data. Together half a minute, most of it to make the data.
EXAMPLES = 5
CHECKS = [
    not_a_server_error,  # also none that is documented: everything runs
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def fuzz(base_url: str) -> dict[str, int]:
    """Call every operation with data from its schema; return how many calls each got."""
    schema = schemathesis.openapi.from_dict(with_short_lists(document()))
    schema.config.checks.negative_data_rejection.expected_statuses = ["400", "404", "413", "415", "431"]
    calls: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode is schemathesis.GenerationMode.NEGATIVE and not takes_data(operation):
                continue
            _fuzz_one(operation.as_strategy(generation_mode=mode), base_url, calls)
    return calls


def with_short_lists(node: Any) -> Any:
    """Return a document without bounds of lists: they are far above what can be made in seconds."""
    if isinstance(node, dict):
        return {name: with_short_lists(value) for name, value in node.items() if name != "maxItems"}
    return [with_short_lists(value) for value in node] if isinstance(node, list) else node


def takes_data(operation: Any) -> bool:
    """Return whether an operation has anything that could be wrong."""
    return any([operation.body, operation.query, operation.path_parameters])


def _fuzz_one(strategy: Any, base_url: str, calls: dict[str, int]) -> None:
    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def call(case: Any) -> None:
        response = case.call(base_url=base_url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
        calls[case.operation.label] = calls.get(case.operation.label, 0) + 1
        case.validate_response(response, checks=[*CHECKS, negative_data_rejection])

    call()


@pytest.mark.broker
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # schemathesis does
async def test_no_data_breaks_the_gateway_or_its_contract(settings: Settings) -> None:
    here = with_gateway(settings, gateway_token=TOKEN, gateway_bulk_s=5.0)
    await make_topics(here)
    async with producer(here) as sender:
        await publish(sender, Topics(here).items, [(i.item_id, i) for i in ITEMS])
    async with gateway(here, ["serve"]) as http:
        calls = await asyncio.to_thread(fuzz, url_of(here))
        assert (await http.get("/ready")).status_code == 200
    operations = {
        f"{m.upper()} {path}" for path, of in document()["paths"].items() for m in of if m != "parameters"
    }
    assert calls.keys() == operations
    assert sum(calls.values()) >= 4 * len(operations)
