"""``headrace dead-letters``: what was refused and why; one letter as a whole; writing records again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options
from headrace.console.extras import require
from headrace.streams.errors import ConfigError

if TYPE_CHECKING:
    from headrace.console.letter_pages import Counts, Latest
    from headrace.streams.settings import Settings
    from headrace.streams.topics.letter_reader import FoundLetter
    from headrace.streams.topics.redrives import Wanted

app = typer.Typer(no_args_is_help=True, help="What was refused: list it, look at it, send it again.")

Reason = Annotated[str, typer.Option(help="Only this reason, for example too_late.")]
Agent = Annotated[str, typer.Option(help="Only what this agent refused.")]
Topic = Annotated[str, typer.Option(help="Only records of this topic.")]
Key = Annotated[str | None, typer.Option(help="Only records with this key.")]
Since = Annotated[
    str | None, typer.Option(help="Only letters written since: 2h, 30min, 7d ago, or 2026-01-31T08:00 UTC.")
]
Until = Annotated[str | None, typer.Option(help="Only letters written before; as --since.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    reason: Reason = "",
    agent: Agent = "",
    topic: Topic = "",
    key: Key = None,
    since: Since = None,
    until: Until = None,
    each: Annotated[bool, typer.Option("--each", help="A line for each letter, the last ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Most lines with --each.")] = 100,
    as_json: AsJson = False,
    brokers: options.Brokers = None,
) -> None:
    """Count the dead letters by reason, field, topic and agent; or list them.

    From the broker alone, so it works when every worker is down. Nothing is written.

    Example, the last letters of a user: [bold]headrace dead-letters list --key user-42 --each[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import letter_pages, screen

    wanted = _wanted(settings, reason, agent, topic, key, since, until)
    found: Counts | Latest = letter_pages.Latest(limit) if each else letter_pages.Counts()
    options.run(_read(settings, wanted, found))
    if isinstance(found, letter_pages.Latest):
        rows, table = found.lines(), letter_pages.lines_table(found.lines())
    else:
        rows = [asdict(group) for group in found.largest()]
        table = letter_pages.counts_table(found.largest())
    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        screen.console().print(table)
    else:
        typer.echo("no dead letters")


@app.command("show")
def show(
    place: Annotated[str, typer.Argument(help="Partition and offset, as list --each shows it: 3-42.")],
    as_json: AsJson = False,
    brokers: options.Brokers = None,
) -> None:
    """Show one letter: why and where it was refused, and the record itself.

    The body is shown as JSON where it is JSON, else as text with escapes. What is named like a password or a
    token is hidden. Exit code 1: there is no such letter.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import letter_pages

    partition, dash, offset = place.partition("-")
    if not (dash and partition.isdecimal() and offset.isdecimal() and len(place) <= 28):
        raise ConfigError(f"{place!r}: write partition and offset, for example 3-42")
    found = options.run(_one(settings, int(partition), int(offset)))
    if found is None:
        typer.echo(f"there is no letter {int(partition)}-{int(offset)}")
        raise typer.Exit(1)
    about = letter_pages.whole(found)
    typer.echo(json.dumps(about) if as_json else letter_pages.letter_text(about))


@app.command("redrive")
def redrive(
    reason: Reason = "",
    agent: Agent = "",
    topic: Topic = "",
    key: Key = None,
    since: Since = None,
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be done.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Most letters of one run.")] = 10_000,
    most_times: Annotated[
        int, typer.Option("--most-times", min=1, max=1000, help="Leave out what was redriven so often.")
    ] = 3,
    as_json: AsJson = False,
    brokers: options.Brokers = None,
) -> None:
    """Write records of `events`, `items` and `users` to their topics again, as they were, each once.

    For when the cause is gone: a limit was raised, a worker has a new version. It can be run again, or killed
    and run again: what was redriven is known, and is not written a second time. A record that is refused
    again becomes a new letter, which names the one before. An item or profile is left out when there is a
    newer one.

    Example: [bold]headrace dead-letters redrive --reason too_large --since 2d --yes[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import letter_pages, screen
    from headrace.streams.clock import now_ms
    from headrace.streams.topics import redrive as job
    from headrace.streams.topics.redrives import Rules

    wanted = _wanted(settings, reason, agent, topic, key, since, until)
    rules = Rules(settings, most_times, now_ms())
    with screen.progress(screen.console(stderr=True), "redrive") as report:
        plan = options.run(
            job.redrive(
                settings,
                wanted,
                rules,
                limit=limit,
                write=yes,
                tell=options.complain,
                report=lambda done: report(done, "records"),
            )
        )
    if as_json:
        figures = {"would": len(plan), "written": plan.written, "left": dict(plan.left), "more": plan.more}
        typer.echo(json.dumps(figures))
        return
    for line in letter_pages.plan_lines(plan, done=yes):
        typer.echo(line)


def _wanted(
    settings: Settings,
    reason: str,
    agent: str,
    topic: str,
    key: str | None,
    since: str | None,
    until: str | None,
) -> Wanted:
    """Return the filters; a topic may be written without the prefix of the installation."""
    from headrace.console.letter_pages import time_of
    from headrace.streams.clock import now_ms
    from headrace.streams.topics.redrives import Wanted

    now = now_ms()
    named = topic if not topic or topic.startswith(settings.topic_prefix) else settings.name(topic)
    return Wanted(
        reason,
        agent,
        named,
        None if key is None else key.encode(),
        None if since is None else time_of("--since", since, now),
        None if until is None else time_of("--until", until, now),
    )


async def _read(settings: Settings, wanted: Wanted, found: Any) -> None:
    from headrace.streams.topics.letter_reader import open_letters

    async with open_letters(settings, wanted.since_ms) as letters:
        async for letter in letters.found(wanted):
            found.add(letter)


async def _one(settings: Settings, partition: int, offset: int) -> FoundLetter | None:
    from headrace.streams.topics.letter_reader import open_letters

    async with open_letters(settings) as letters:
        return await letters.one(partition, offset)
