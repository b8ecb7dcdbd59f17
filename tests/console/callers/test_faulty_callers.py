"""Every check of a caller fails for a caller with the fault it looks for, and for no good one."""

from __future__ import annotations

import re

import faulty_callers as callers
import pytest
from fresh_topics import admin_of, make_topic
from installation import until

from headrace.console.callers import suite
from headrace.console.callers.caller import Caller
from headrace.console.callers.headers import CONVENTIONS, HeaderCaller
from headrace.console.callers.run import Result, all_results, chosen
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings

pytestmark = pytest.mark.broker


@pytest.fixture
async def idle(settings: Settings) -> Settings:
    """Return the settings of an installation that has its topics, and no worker."""
    for name in ("rec-requests", "dead-letters"):
        await make_topic(settings, settings.name(name), 2)
    return settings


async def verdict(settings: Settings, caller: Caller, check: str, timeout_s: float) -> Result:
    (result,) = await all_results(settings, caller, chosen([check]), timeout_s=timeout_s)
    return result


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.name)
async def test_a_good_caller_passes(convention, idle: Settings) -> None:
    checks = chosen([], serve=False)
    found = await all_results(idle, HeaderCaller(idle, convention), checks, timeout_s=20)
    assert [r.check for r in found] == checks
    assert [(r.check.name, r.detail) for r in found if r.verdict != "ok"] == []
    async with admin_of(idle.brokers) as admin:
        # A broker deletes topics when it has answered. Others make theirs meanwhile, with other prefixes.

        async def left() -> list[str]:
            mine = [topic for topic in await admin.list_topics() if topic.startswith(idle.topic_prefix)]
            return [topic for topic in mine if "conformance" in topic]

        await until(left, lambda topics: topics == [])


@pytest.mark.parametrize(
    ("kind", "check", "told"),
    [
        (callers.Hasty, "first", "no reply but timeout"),
        (callers.Mailbox, "shuffled", "came to the caller of"),
        (callers.Mailbox, "strangers", "came to the caller of"),
        (callers.Strict, "new-fields", r"no reply but error unknown: \['another', 'field_of_later'\]"),
        (callers.Fragile, "null", "the next request: no reply but timeout"),
        (callers.Mailbox, "late", "the next request: the reply of request"),
        (callers.Mailbox, "twice", "the next request: the reply of request"),
        (callers.Patient, "late", "the caller says error"),
    ],
)
async def test_a_fault_is_found(
    kind: type[callers.PlainCaller],
    check: str,
    told: str,
    idle: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suite, "GRACE_S", 0.5)
    found = await verdict(idle, kind(idle), check, 5 if "timeout" in told else 20)
    assert found.verdict == "failed"
    assert re.search(told, found.detail), found.detail


@pytest.mark.parametrize(
    ("kind", "told"), [(callers.Keyless, "it was None"), (callers.Elsewhere, "6 of 6 requests")]
)
async def test_a_key_that_is_not_as_it_should_be_is_no_fault(
    kind: type[callers.PlainCaller], told: str, idle: Settings
) -> None:
    found = await verdict(idle, kind(idle), "key", 20)
    assert (found.verdict, told in found.detail) == ("advice", True), found.detail


async def test_without_topics_or_a_broker(settings: Settings) -> None:
    caller = callers.PlainCaller(settings)
    with pytest.raises(UnavailableError, match="headrace topics create"):
        await all_results(settings, caller, chosen(["first"]))
    away = Settings(brokers="127.0.0.1:1")
    with pytest.raises(UnavailableError, match="no Kafka broker answers at 127"):
        await all_results(away, caller, chosen(["first"]))


def test_a_check_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no check 'frist'; there are first, key, "):
        chosen(["frist"])
