"""``headrace digest``: lists for many users, made while the workers have time, into a Parquet file."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require


class Surface(StrEnum):
    """Kinds of lists that need nothing but the user."""

    digest = "digest"
    home = "home"


def digest(
    users: Annotated[
        str,
        typer.Argument(
            help="Text with a user id a line, CSV or Parquet with a column user_id; - is standard input."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", dir_okay=False)],
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=500, help="Length of each list.")] = 20,
    surface: Annotated[Surface, typer.Option(help="Kind of the lists.")] = Surface.digest,
    seen: Annotated[
        list[Path] | None,
        typer.Option(help="Lists of an earlier digest: their items are not on the new ones."),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, max=10_000, help="Requests that wait for their replies at once.")
    ] = 256,
    timeout: Annotated[
        float,
        typer.Option(min=1, help="A request is sent again after so many seconds; without any reply, stop."),
    ] = 300,
    part: Annotated[
        int, typer.Option(min=1, help="Users whose lists are written together, and lost together by a kill.")
    ] = 1000,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Make a list for each of many users, while the workers have nothing else to do.

    When it is stopped or killed, the same command goes on where it was. Users without a list are named in
    OUT.failed.csv; then the exit code is 1. Progress is on standard error.

    Example: [bold]headrace digest users.txt --out lists.parquet --n 10[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.digests.asking import StalledError
    from headrace.console.digests.job import Job
    from headrace.console.digests.parts import Run, check_of, open_parts
    from headrace.console.digests.users import Seen, read_users

    if "://" in str(out):
        raise typer.BadParameter("write to a file of this machine", param_hint="--out")
    ids, before = read_users(users), Seen(seen or [])
    paths = [str(path.absolute()) for path in seen or []]
    wanted = Run(len(ids), check_of(ids), surface.value, n, paths, size=part)
    began = time.monotonic()
    with open_parts(out, wanted) as parts:
        job = Job(parts, ids, before)
        try:
            with screen.progress(screen.console(stderr=True), "digest", len(ids)) as report:
                options.run(job.ask(settings, report, in_flight=in_flight, timeout_s=timeout))
        except (KeyboardInterrupt, StalledError) as exc:
            options.complain(
                f"{str(exc) or 'stopped'}; {job.done:,} of {len(ids):,} users have a list in {out}.parts: "
                "the same command goes on there"
            )
            if isinstance(exc, StalledError):
                options.complain(f"is a `headrace worker serve` running on {settings.brokers}?")
                raise typer.Exit(1) from None
            raise
        written = parts.finish()
    seconds = time.monotonic() - began
    figures = {
        "users": len(ids), "lists": written.lists, "failed": written.failed, "before": job.before,
        "seconds": round(seconds, 3), "lists_per_s": round((len(ids) - job.before) / max(1e-9, seconds), 1),
    }  # fmt: skip
    options.write_json(json_path, figures)
    typer.echo(f"{written.lists:,} lists in {out}, {figures['lists_per_s']:,} users/s")
    if written.failed:
        options.complain(f"{written.failed:,} users have no list: {parts.failed_path} says why")
        raise typer.Exit(1)
