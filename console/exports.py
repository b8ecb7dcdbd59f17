"""``headrace export``: examples and feature rows for other people's training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require

app = typer.Typer(
    no_args_is_help=True,
    help="Write examples, or the feature rows of users and items, as Parquet files: docs/backfill.md.",
)

Out = Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix?endpoint_override=...")]


@app.command("examples")
def examples(
    out: Out,
    since: Annotated[
        str | None, typer.Option(help="Only what was shown from this time on: 2026-01-31.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what was shown before this time.")] = None,
    json_path: options.JsonPath = None,
) -> None:
    """Write the training log: features as columns, labels, weights, propensities, positions.

    Each example once, with the weight that it has for our trainer; weight 0: the trainer leaves it out.

    Example: [bold]headrace export examples s3://lake/headrace --since 2026-01-01[/]
    """
    settings = options.read_settings()
    require("worker")
    from headrace.console import screen
    from headrace.console.exported import examples as job
    from headrace.models.learning.places import place

    began = time.monotonic()
    since_ms, until_ms = options.time_ms("--since", since), options.time_ms("--until", until)
    with screen.progress(screen.console(stderr=True), "export examples") as report:
        rows, files = job.export(settings, place(out), since_ms, until_ms, report)
    figures = {"rows": rows, "files": files, "seconds": round(time.monotonic() - began, 3)}
    options.write_json(json_path, figures)
    typer.echo(f"{rows:,} examples in {files:,} files in {out}")


Ids = Annotated[
    Path | None,
    typer.Option(help="File with more ids, one a line, .csv or .parquet: other rows have only a hash."),
]


@app.command("users")
def users(
    out: Out, ids: Ids = None, json_path: options.JsonPath = None, brokers: options.Brokers = None
) -> None:
    """Write the rows of users as of now: counts, tastes, recent clicks, profile.

    Example: [bold]headrace export users out/ --ids users.txt[/]
    """
    _rows("users", out, ids, json_path, brokers)


@app.command("items")
def items(out: Out, json_path: options.JsonPath = None, brokers: options.Brokers = None) -> None:
    """Write the rows of items as of now: counts of all windows.

    Example: [bold]headrace export items out/[/]
    """
    _rows("items", out, None, json_path, brokers)


def _rows(what: str, out: str, ids: Path | None, json_path: Path | None, brokers: str | None) -> None:
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.digests.users import read_users
    from headrace.console.exported import rows as job
    from headrace.models.learning.places import place
    from headrace.streams.clock import now_ms

    named = [] if ids is None else read_users(str(ids)).to_pylist()
    table = job.USERS if what == "users" else job.ITEMS
    began = time.monotonic()
    with screen.progress(screen.console(stderr=True), f"export {what}") as report:
        rows, files = options.run(job.export(settings, table, place(out), named, now_ms(), report))
    figures = {"rows": rows, "files": files, "seconds": round(time.monotonic() - began, 3)}
    options.write_json(json_path, figures)
    typer.echo(f"{rows:,} {what} in {files:,} files in {out}")
