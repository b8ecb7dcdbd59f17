"""``headrace conformance``: whether callers and workers keep the contract of requests and replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options

if TYPE_CHECKING:
    from headrace.console.callers.caller import Caller
    from headrace.console.callers.checks import Check
    from headrace.console.callers.run import Result
    from headrace.streams.settings import Settings


def conformance(
    command: Annotated[
        list[str] | None, typer.Argument(help="The caller's program, after --; without it: our own callers.")
    ] = None,
    check: Annotated[list[str] | None, typer.Option(help="Only this check; may be repeated.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Whether to run the checks that ask the workers.")
    ] = True,
    timeout: Annotated[float, typer.Option(min=1, max=60, help="Seconds to wait for a reply.")] = 10.0,
    brokers: options.Brokers = None,
) -> None:
    """Check a caller of the request topic, in any language, against this installation.

    The program is told what to ask on its standard input, and writes what came back: see docs/caller.md.
    Without a program, callers with plain, Spring's and Faust's headers check the workers. A line for each
    check. Exit code 1: one failed.

    Example: [bold]headrace conformance -- java -jar caller.jar[/]

    The checks make two topics of their own, and delete them at the end.
    """
    settings = options.read_settings(brokers)
    from headrace.console.callers.headers import CONVENTIONS, HeaderCaller
    from headrace.console.callers.program import ProgramCaller
    from headrace.console.callers.run import chosen

    checks = chosen(check or [], serve=serve)
    callers: list[Caller] = (
        [ProgramCaller(command, settings.brokers)]
        if command
        else [HeaderCaller(settings, convention) for convention in CONVENTIONS]
    )
    failed = options.run(_show(settings, callers, checks, timeout))
    raise typer.Exit(1 if failed else 0)


async def _show(
    settings: Settings, callers: Sequence[Caller], checks: Sequence[Check], timeout_s: float
) -> int:
    """Print a line for each check; return how many failed."""
    from contextlib import aclosing

    from headrace.console.callers.run import results

    total = failed = 0
    for caller in callers:
        async with aclosing(results(settings, caller, checks, timeout_s=timeout_s)) as found:  # type: ignore[type-var]
            async for result in found:
                typer.echo(line(result))
                total += 1
                failed += result.verdict == "failed"
    typer.echo(f"{total} checks, {failed} failed")
    return failed


def line(result: Result) -> str:
    """Return the line of one check."""
    mark = {"ok": "ok", "advice": "advice", "failed": "FAILED"}[result.verdict]
    more = f" -- {result.detail}" if result.detail else ""
    return f"{mark:<7} {result.caller}  {result.check.name:<12} {result.check.text}{more}"
