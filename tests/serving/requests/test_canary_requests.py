"""What the canary sends is accepted, and what it reads from a reply is what the reply tells."""

from __future__ import annotations

import msgspec
import pytest

from headrace.serving.requests import canary
from headrace.streams.messages.schemas import (
    ErrorInfo,
    Event,
    Item,
    RecItem,
    RecReply,
    RecRequest,
    check_event,
    check_request,
)
from headrace.streams.topics.sender import partition_of

NOW = 1_700_000_000_000


@pytest.mark.parametrize("partitions", [1, 2, 4, 17])
def test_there_is_a_user_for_each_partition(partitions: int) -> None:
    found = canary.users(partitions, partition_of)
    assert [partition_of(user.encode(), partitions) for user in found] == list(range(partitions))
    assert all(canary.is_canary(user) for user in found)
    assert not canary.is_canary("user-1")


def test_every_message_is_accepted() -> None:
    request = canary.request("r", canary.users(1, partition_of)[0], 1000)
    check_request(msgspec.json.decode(msgspec.json.encode(request), type=RecRequest))
    for wanted in (True, False):
        event = canary.act("e", canary.users(1, partition_of)[0], NOW, wanted=wanted)
        check_event(msgspec.json.decode(msgspec.json.encode(event), type=Event), NOW, 0, 0)
    for name in (canary.CARRIER, canary.SHOWN, canary.WITNESS, canary.GUEST):
        item = msgspec.json.decode(msgspec.json.encode(canary.item(name)), type=Item)
        assert item.countries == [canary.PLACE], "nobody else may see it"


def reply(*items: str, degraded: tuple[str, ...] = ()) -> RecReply:
    slots = [RecItem(item, 0.0, {}, [], explored=False, propensity=1.0) for item in items]
    return RecReply("r", slots, degraded=list(degraded))


def test_a_list_tells_only_with_the_witness_and_the_row_of_the_user() -> None:
    assert canary.sees(reply(canary.WITNESS, canary.SHOWN), canary.SHOWN) is True
    assert canary.sees(reply(canary.WITNESS), canary.SHOWN) is False
    assert canary.sees(reply(canary.SHOWN), canary.SHOWN) is None
    assert canary.sees(reply(), canary.SHOWN) is None
    assert canary.sees(reply(canary.WITNESS, degraded=("user",)), canary.SHOWN) is None
    assert canary.sees(reply(canary.WITNESS, degraded=("user",)), canary.GUEST) is False
    assert canary.sees(reply(canary.WITNESS, canary.GUEST, degraded=("user",)), canary.GUEST) is True
    assert canary.sees(reply(canary.WITNESS, degraded=("ranker",)), canary.SHOWN) is False
    assert canary.sees(RecReply("r", error=ErrorInfo("overloaded", "")), canary.SHOWN) is None
