"""Runs the checks with one caller, one after the other."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from aiokafka.errors import KafkaError

from headrace.console.callers.caller import Caller
from headrace.console.callers.checks import CHECKS, Check
from headrace.console.callers.suite import Advice, Failed, Suite
from headrace.console.callers.wire import Wire
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Result:
    """What a check has found; ``detail`` is empty when all is well."""

    caller: str
    check: Check
    verdict: Literal["ok", "advice", "failed"]
    detail: str = ""


def chosen(names: Sequence[str], *, serve: bool = True) -> list[Check]:
    """Return the checks of these names, or all of them without names.

    Parameters
    ----------
    names
        Of checks.
    serve
        Whether those that need a ``serve`` worker are among them.

    Raises
    ------
    ConfigError
        There is no check of a name.
    """
    known = [check.name for check in CHECKS]
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no check {name!r}; there are {', '.join(known)}")
    return [c for c in CHECKS if (not names or c.name in names) and (serve or not c.needs_serve)]


async def results(
    settings: Settings, caller: Caller, checks: Sequence[Check], *, timeout_s: float = 10.0
) -> AsyncIterator[Result]:
    """Start the caller, run the checks and yield what each has found; then stop it.

    Raises
    ------
    UnavailableError
        No broker answers, or there are no topics.
    ConfigError
        The caller does not start.
    """
    tag = f"conformance-{secrets.token_hex(4)}"
    wire = Wire(settings, tag.removeprefix("conformance-"))
    await wire.start()
    try:
        try:
            await caller.start(wire.replies)
            suite = Suite(caller, wire, tag, timeout_s)
            for check in checks:
                yield await _result(suite, check)
        finally:
            await caller.stop()
    finally:
        await wire.stop()


async def _result(suite: Suite, check: Check) -> Result:
    name = suite.caller.name
    try:
        await check.run(suite)
    except Failed as exc:
        return Result(name, check, "failed", str(exc))
    except Advice as exc:
        return Result(name, check, "advice", str(exc))
    except KafkaError as exc:
        return Result(name, check, "failed", f"the broker: {exc!r}")
    return Result(name, check, "ok")


async def all_results(
    settings: Settings, caller: Caller, checks: Sequence[Check], *, timeout_s: float = 10.0
) -> list[Result]:
    """Return what all checks have found. Raises as ``results``."""
    async with aclosing(results(settings, caller, checks, timeout_s=timeout_s)) as found:  # type: ignore[type-var]
        return [result async for result in found]
