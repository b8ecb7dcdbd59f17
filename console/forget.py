"""``headrace forget``: forget a user, and prove it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options
from headrace.console.extras import require

if TYPE_CHECKING:
    from headrace.console.forgotten.job import Left


def forget(
    user: Annotated[str, typer.Argument(help="User id.", metavar="USER")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Forget nobody; look in every place for what is left.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
    redis: options.Redis = None,
) -> None:
    """Forget a user: write a null on `users`, and the training log again without its rows.

    Workers clear the user's rows, also in Redis, within seconds. With [bold]--verify[/] nothing is written:
    it looks in the changelogs, Redis, the training log and all topics, and says what goes by itself and when.
    Lists shown in the last HEADRACE_OUTCOME_WAIT_MS become examples later: forget the user again then.

    Exit codes of --verify: 0: nothing is left that must not be, 1: something is.

    Example: [bold]headrace forget user-42 --verify[/]
    """
    settings = options.read_settings(brokers, redis)
    require("worker")
    from headrace.console.forgotten import job

    if not verify:
        if not yes:
            typer.confirm(f"Forget user {user}? This cannot be undone.", abort=True)
        rows = options.run(job.forget(settings, user))
        options.write_json(json_path, {"user_id": user, "rows_of_the_training_log": rows})
        typer.echo(f"user {user} is forgotten; {rows} rows were taken out of the training log")
        typer.echo("`headrace forget --verify` says what is left")
        return
    left = options.run(job.look(settings, user))
    options.write_json(json_path, left.as_dict())
    for line in told(left):
        typer.echo(line)
    raise typer.Exit(0 if left.forgotten else 1)


def told(left: Left) -> list[str]:
    """Return what is left of a user, line by line."""
    out = [
        f"{place}: {'nothing' if not n else f'STILL THERE ({n})'}" for place, n in left.still_there.items()
    ]
    for topic, one in left.until.items():
        at = datetime.fromtimestamp(one["gone_ts"] / 1000, UTC).isoformat(" ", "minutes")
        out.append(f"{topic}: {one['records']} records; gone by {at}, with the retention of the topic")
    return [*out, f"user {left.user_id} is {'' if left.forgotten else 'NOT '}forgotten"]
