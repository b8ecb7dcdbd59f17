"""``headrace topics``: create or check the topics of an installation."""

from __future__ import annotations

import typer

from headrace.console import options

app = typer.Typer(no_args_is_help=True, help="Create or check the topics of an installation.")


@app.command("create")
def create(brokers: options.Brokers = None) -> None:
    """Create the topics that are missing; those that exist stay as they are."""
    settings = options.read_settings(brokers)
    from headrace.streams.topics.admin import create_topics
    from headrace.streams.topics.names import Topics

    created = options.run(create_topics(settings))
    for name in created:
        typer.echo(f"created {name}")
    total = len(Topics(settings).specs(settings))
    typer.echo(f"{len(created)} topics created, {total - len(created)} were there already")


@app.command("check")
def check(brokers: options.Brokers = None) -> None:
    """Print what is wrong with the topics; exit code 1 if anything is."""
    settings = options.read_settings(brokers)
    from headrace.streams.topics.admin import check_topics

    problems = options.run(check_topics(settings))
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo("all topics fit")
