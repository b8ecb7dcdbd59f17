"""``headrace repartition``: make the partitions of an installation more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require


def repartition(
    partitions: Annotated[
        int, typer.Argument(min=1, max=10_000, help="The new number: a multiple of the present one.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would move, and what stands in the way.")
    ] = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
    redis: options.Redis = None,
) -> None:
    """Make the partitions of all topics more; every count, profile and list goes along.

    First stop the workers of serve, and let the others read what is left; then stop them, too. It says what
    was not read. Producers need not stop. Killed at any moment, run it again. Then start all workers with
    HEADRACE_PARTITIONS set to the new number; until it has ended, none starts.

    Example: [bold]headrace repartition 8 --dry-run[/]
    """
    settings = options.read_settings(brokers, redis)
    require("worker")
    from headrace.console.repartitioning.job import repartition as make_more
    from headrace.console.repartitioning.plan import NotReadyError

    try:
        done = options.run(make_more(settings, partitions, typer.echo, dry=dry_run))
    except NotReadyError as exc:
        options.complain(str(exc))
        raise typer.Exit(1) from exc
    options.write_json(json_path, asdict(done))
    if done.old == done.new:
        typer.echo(f"there are {done.new} partitions: nothing to do")
        return
    for topic, count in done.rows.items():
        verb = "would go" if dry_run else "went"
        typer.echo(f"{topic}: {done.moving[topic]:,} of {count:,} rows {verb} to new partitions")
    if done.expired:
        verb = "would be" if dry_run else "were"
        typer.echo(f"{done.expired:,} rows of what users were shown had expired, and {verb} left out")
    for fault in done.faults:
        options.complain(fault)
    if done.faults:
        raise typer.Exit(1)
    if dry_run:
        how = "go on with it: run" if done.interrupted else "ready: run"
        typer.echo(f"{how} it without --dry-run")
        return
    for topic, count in done.carried.items():
        typer.echo(f"{topic}: {count:,} records carried over")
    typer.echo(f"ready: start all workers with HEADRACE_PARTITIONS={done.new}")
