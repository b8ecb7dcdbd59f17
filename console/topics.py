"""``headrace topics``: create or check the topics of an installation."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.console import options

app = typer.Typer(no_args_is_help=True, help="Create or check the topics of an installation.")


@app.command("create")
def create(
    events_days: Annotated[
        int,
        typer.Option(
            min=0, help="Keep events for so many days, if that is longer: for an import of older ones."
        ),
    ] = 0,
    brokers: options.Brokers = None,
) -> None:
    """Create the topics that are missing; those that exist stay as they are.

    What is wrong with those is printed, too.
    """
    settings = options.read_settings(brokers)
    from headrace.streams.topics.admin import create_topics, inspect_topics
    from headrace.streams.topics.checks import Level
    from headrace.streams.topics.names import Topics

    created = options.run(create_topics(settings, events_days))
    for name in created:
        typer.echo(f"created {name}")
    total = len(Topics(settings).specs(settings))
    typer.echo(f"{len(created)} topics created, {total - len(created)} were there already")
    if len(created) < total:
        # The broker may not describe a topic that it has only just made.
        for fault in options.run(inspect_topics(settings)):
            if fault.topic not in created and fault.level is not Level.ADVICE:
                options.complain(fault.text)


@app.command("check")
def check(brokers: options.Brokers = None) -> None:
    """Print what is wrong with the topics and their settings; exit code 1 if anything is.

    A line that begins with "advice:" is no fault, and does not change the exit code.
    """
    settings = options.read_settings(brokers)
    from headrace.streams.topics.admin import inspect_topics
    from headrace.streams.topics.checks import Level

    found = options.run(inspect_topics(settings))
    for fault in found:
        typer.echo(f"advice: {fault.text}" if fault.level is Level.ADVICE else fault.text)
    if any(fault.level is not Level.ADVICE for fault in found):
        raise typer.Exit(1)
    typer.echo("all topics fit")
