"""``headrace capacity``: how large an installation must be for a load."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.console import options
from headrace.streams.errors import ConfigError


def capacity(
    users: Annotated[
        float | None, typer.Option(help="Users of whom rows are kept (seen within 30 days).")
    ] = None,
    items: Annotated[float | None, typer.Option(help="Items of the catalogue.")] = None,
    requests_per_s: Annotated[float | None, typer.Option(help="Lists that are asked for, a second.")] = None,
    events_per_s: Annotated[float | None, typer.Option(help="Events, a second.")] = None,
    active_users: Annotated[
        float, typer.Option(help="Users active at the same time; 0: one in 50 of all.")
    ] = 0.0,
    slots: Annotated[int, typer.Option(help="Slots of a list.")] = 20,
    countries: Annotated[
        int, typer.Option(help="Countries, and age groups there, in which an item has events.")
    ] = 5,
    retention: Annotated[
        float | None,
        typer.Option(help="Days that events, impressions and examples are kept (else as topics are made)."),
    ] = None,
    replication: Annotated[int, typer.Option(help="Replicas of the topics.")] = 3,
    busy: Annotated[float, typer.Option(help="Share of a core that a worker may use on average.")] = 0.6,
    worker_gb: Annotated[float, typer.Option(help="Most memory of a worker, GB.")] = 8.0,
    least: Annotated[int, typer.Option(help="Workers of a role at least: with 2, one may fail.")] = 2,
    why: Annotated[bool, typer.Option("--why", help="Also the formula and the constants of each.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Estimate workers, partitions, memory, Redis, Kafka and bytes a month, from measured constants.

    No broker is asked. Settings of the environment count (HEADRACE_STANDBY_REPLICAS and others). What does
    not work at a load is said. docs/capacity.md has an example, the formulas, and predictions beside
    measurements.

    Example: [bold]headrace capacity --users 1e6 --items 1e5 --requests-per-s 200 --events-per-s 5000[/]
    """
    import json

    from headrace.console.capacity_page import page
    from headrace.console.screen import console
    from headrace.console.sizing.constants import shipped
    from headrace.console.sizing.estimate import as_json as exported
    from headrace.console.sizing.estimate import estimate
    from headrace.console.sizing.load import Load

    if users is None or items is None or requests_per_s is None or events_per_s is None:
        raise ConfigError("say how large the load is: --users, --items, --requests-per-s and --events-per-s")
    settings, constants = options.read_settings(), shipped()
    load = Load(
        users=users, items=items, events_per_s=events_per_s, requests_per_s=requests_per_s,
        active_users=active_users, slots=slots, countries=countries, retention_days=retention,
        replication=replication, busy=busy, worker_gb=worker_gb, least=least,
    )  # fmt: skip
    found = estimate(load, settings, constants)
    if as_json:
        typer.echo(json.dumps(exported(found, constants), indent=1))
    else:
        console().print(page(found, constants, settings, why=why))
