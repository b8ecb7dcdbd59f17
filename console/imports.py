"""``headrace import``: what happened before Headrace, from files."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Bring past events, items and profiles into an installation, from Parquet, CSV or JSON lines.\n\n"
        "First items and users, then events: docs/backfill.md."
    ),
)

Paths = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, or s3://bucket/prefix?endpoint_override=..., of .parquet, .csv, .jsonl."
    ),
]
Renamed = Annotated[
    list[str] | None,
    typer.Option("--map", help="A column of theirs is a field of ours: theirs=ours; a.b is nested."),
]
Given = Annotated[
    list[str] | None, typer.Option("--set", help="A field that the files lack: ours=value, as type=click.")
]
SkipBad = Annotated[
    Path | None,
    typer.Option("--skip-bad", help="Leave bad rows out and write them to this file.", dir_okay=False),
]


class Unit(StrEnum):
    """Units of times that are numbers."""

    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


UnitOption = Annotated[Unit, typer.Option("--time-unit", help="Unit of times that are numbers.")]

Replace = Annotated[
    bool,
    typer.Option("--replace", help="Write also what is there already, or was deleted: the file is newer."),
]


@app.command("events")
def events(
    paths: Paths,
    renamed: Renamed = None,
    given: Given = None,
    unit: UnitOption = Unit.ms,
    skip_bad: SkipBad = None,
    since: Annotated[
        str | None, typer.Option(help="Only events from this time on: 2026-01-31, or with T12:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only events before this time, as when live events began.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="At most so many events a second; 0: any number.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Read and check the files, send nothing.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Import also files that were imported before: they count twice.")
    ] = False,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder where events are sorted (else import-work in HEADRACE_DATA_DIR)."),
    ] = None,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Send past events in the order of their time, each at its own time: state is as if they had come live.

    Everything is read and checked first. When it is stopped or killed, the same command goes on; files that
    were imported before are left out. Progress is on standard error.

    Example: [bold]headrace import events clicks/ --map uid=user_id --set type=click --time-unit s[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.imported.bad_rows import BadRows
    from headrace.console.imported.event_columns import FIELDS
    from headrace.console.imported.event_job import WORK, EventImport, Wanted
    from headrace.console.imported.mapping import mapping_of
    from headrace.console.imported.sending import when
    from headrace.console.imported.sources import find, input_file

    mapping = mapping_of(renamed or [], given or [], unit.value, FIELDS)
    wanted = Wanted(
        mapping, options.time_ms("--since", since), options.time_ms("--until", until), rate, again, check
    )
    began = time.monotonic()
    files = [input_file(at) for at in find(paths)]
    with BadRows(skip_bad) as bad, screen.progress(screen.console(stderr=True), "import events") as report:
        job = EventImport(
            settings,
            files,
            wanted,
            bad,
            work or settings.data_dir / WORK,
            tell=options.complain,
            report=report,
        )
        done = options.run(job.run())
    seconds = time.monotonic() - began
    options.write_json(json_path, done.as_dict() | {"seconds": round(seconds, 3)})
    if done.before:
        typer.echo(f"{done.before:,} of {done.files:,} files were imported before")
    if done.skipped:
        typer.echo(f"{done.skipped:,} bad rows left out: {skip_bad}")
    span = f", {when(done.oldest)} to {when(done.newest)} UTC" if done.events else ""
    what = f"{done.events:,} events are right" if check else f"{done.sent:,} of {done.events:,} events sent"
    typer.echo(f"{what} in {seconds:.1f} s{span}")


@app.command("items")
def items(
    paths: Paths,
    renamed: Renamed = None,
    given: Given = None,
    unit: UnitOption = Unit.ms,
    skip_bad: SkipBad = None,
    replace: Replace = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Publish the items of a catalogue. Those that were published or deleted before stay as they are.

    Import items before events: a click counts in the taste for the category of an item that is known.

    What was deleted stays deleted only while Kafka keeps its tombstone (a day after compaction). Take deleted
    items out of the files first.

    Example: [bold]headrace import items catalogue.csv --map id=item_id --map created=published_ts[/]
    """
    _records("items", paths, renamed, given, unit, skip_bad, replace, json_path, brokers)


@app.command("users")
def users(
    paths: Paths,
    renamed: Renamed = None,
    given: Given = None,
    unit: UnitOption = Unit.ms,
    skip_bad: SkipBad = None,
    replace: Replace = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Write the profiles of users. Those that are there stay as they are; so do users that were forgotten.

    Who was forgotten stays forgotten only while Kafka keeps the tombstone (a day after compaction). Take
    forgotten users out of the files first.

    Example: [bold]headrace import users profiles.parquet --map uid=user_id[/]
    """
    _records("users", paths, renamed, given, unit, skip_bad, replace, json_path, brokers)


def _records(
    what: str,
    paths: list[str],
    renamed: list[str] | None,
    given: list[str] | None,
    unit: Unit,
    skip_bad: Path | None,
    replace: bool,
    json_path: Path | None,
    brokers: str | None,
) -> None:
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.imported.bad_rows import BadRows
    from headrace.console.imported.mapping import mapping_of
    from headrace.console.imported.record_job import ITEMS, USERS, RecordImport
    from headrace.console.imported.sources import find, input_file

    kind = ITEMS if what == "items" else USERS
    mapping = mapping_of(renamed or [], given or [], unit.value, kind.fields)
    files = [input_file(at) for at in find(paths)]
    began = time.monotonic()
    with BadRows(skip_bad) as bad, screen.progress(screen.console(stderr=True), f"import {what}") as report:
        job = RecordImport(settings, files, kind, mapping, bad, replace=replace, report=report)
        done = options.run(job.run())
    options.write_json(json_path, done.as_dict() | {"seconds": round(time.monotonic() - began, 3)})
    typer.echo(f"{done.sent:,} {what} written, {done.there:,} were there")
    if done.skipped:
        typer.echo(f"{done.skipped:,} bad rows left out: {skip_bad}")


@app.command("examples")
def examples(paths: Paths, json_path: options.JsonPath = None) -> None:
    """Put examples that `headrace export examples` has written into the training log.

    One that is there already counts once. The features must be those of this version.

    Example: [bold]headrace import examples s3://lake/headrace[/]
    """
    settings = options.read_settings()
    require("worker")
    from headrace.console import screen
    from headrace.console.imported.example_job import import_examples
    from headrace.console.imported.sources import find, input_file
    from headrace.models.learning.log_files import folder_of

    files = [input_file(at) for at in find(paths)]
    with screen.progress(screen.console(stderr=True), "import examples") as report:
        done = import_examples(settings, files, report)
    options.write_json(json_path, {"examples": done})
    typer.echo(f"{done:,} examples are in the log in {folder_of(settings)}")
