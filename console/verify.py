"""``headrace verify``: compare everything that is kept with a batch computation from the raw topics."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require


def verify(
    json_path: options.JsonPath = None,
    at: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Compare windows as they stand at this time, ms; may be repeated."),
    ] = None,
    first: Annotated[int, typer.Option(min=1, max=10_000, help="Print at most so many differences.")] = 20,
    no_redis: Annotated[
        bool, typer.Option("--no-redis", help="Compare the rows in Kafka only, not those in Redis.")
    ] = False,
    brokers: options.Brokers = None,
    redis: options.Redis = None,
) -> None:
    """Compute everything that is kept again from the raw topics and compare.

    A batch job that shares no code with the workers reads `events`, `impressions`, `users` and `items` whole.
    The rows in Kafka and Redis must have the same values: windows, totals, decayed counts, last clicks,
    affinities, profiles, neighbours. So must the dedup windows, `examples`, and the catalogue snapshot of
    this machine; and published models must be finite and in use. The output says how many of each kind were
    compared. Nothing is written.

    Run it when the workers have caught up and nothing is being produced. Exit codes: 0: nothing differs,
    1: something differs, 2: nothing could be compared.

    Example: [bold]headrace verify --json verify.json[/]
    """
    settings = options.read_settings(brokers, redis)
    require("worker", "verify")
    from headrace.console import screen
    from headrace.console.verification import page
    from headrace.console.verification import run as job

    with screen.progress(screen.console(stderr=True), "verify") as report:
        result = options.run(
            job.verify(settings, at=at or (), first=first, redis=not no_redis, report=report)
        )
    options.write_json(json_path, result.as_dict())
    page.show(screen.console(), result)
    raise typer.Exit(result.exit_code)
