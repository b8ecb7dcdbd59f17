"""``headrace upgrade``: prepare an installation of version 0.1.0 for this version."""

from __future__ import annotations

from dataclasses import asdict

import typer

from headrace.console import options
from headrace.console.extras import require


def upgrade(json_path: options.JsonPath = None, brokers: options.Brokers = None) -> None:
    """Prepare an installation of version 0.1.0 for this version, once, while all its workers are stopped.

    Version 0.1.0 hashed ids in another way, so its rows cannot be used. Workers of this version then make the
    rows again, from all that `users`, `items`, `events` and `impressions` have. What those topics do not have
    any more, counts of before their retention, is lost. Producers and callers need not stop.

    It does nothing to an installation of a later version: its rows are migrated as they are read. When it was
    interrupted, run it again.

    Example: [bold]headrace upgrade[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console.upgrading.rebuild import rebuild

    done = options.run(rebuild(settings, typer.echo))
    options.write_json(json_path, asdict(done))
    if not done.found:
        typer.echo("there are no rows of version 0.1.0: nothing to do")
        return
    told = ", ".join(f"{n:,} of {topic}" for topic, n in done.read_again.items())
    typer.echo(f"ready: start the workers of this version; they read {told} records again")
