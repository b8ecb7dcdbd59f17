"""``headrace producers``: whether producers put their records into the right partitions, and which do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.streams.topics.producers import Placement


def producers(
    newest: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Records of each topic to look at.")
    ] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, help="Longest time for reading.")] = 10.0,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Show whether producers put their records into the partitions of their keys.

    Looks at the newest records of `events`, `items`, `users` and `rec-requests`. A client whose partitioner
    is not murmur2 is named where it can be told from its keys. Exit codes: 0: every record is in the right
    partition, 1: some are in a wrong one, or have no key.

    From the broker alone, so it works when every worker is down. Nothing is written.
    """
    settings = options.read_settings(brokers)
    from headrace.console import screen
    from headrace.streams.topics.producers import placements

    found = options.run(placements(settings, newest=newest, seconds=seconds))
    options.write_json(json_path, {"topics": [figures(place) for place in found]})
    out = screen.console()
    if not found:
        typer.echo(
            f"the public topics do not exist on {settings.brokers} (create them: headrace topics create)"
        )
        raise typer.Exit(1)
    out.print(table(found))
    for line in remarks(found):
        out.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(1 if any(place.wrong or place.keyless for place in found) else 0)


def figures(place: Placement) -> dict[str, Any]:
    """Return the figures of one topic for JSON."""
    guess = place.guess()
    names = ("topic", "partitions", "records", "right", "wrong", "keyless", "forwarded", "complete")
    agreement = {client: round(share, 4) for client, share in guess.agreement.items()}
    return {
        **{name: getattr(place, name) for name in names},
        "wrong_keys": len(place.places),
        "client": guess.client,
        "agreement": agreement,
    }


def table(found: Sequence[Placement]) -> RenderableType:
    """Return a row for each topic."""
    from rich.box import SIMPLE
    from rich.table import Table

    out = Table(box=SIMPLE, pad_edge=False)
    out.add_column("topic")
    for name in ("records", "right partition", "wrong partition", "no key", "sent on by us"):
        out.add_column(name, justify="right")
    for place in found:
        counts = (place.records, place.right, place.wrong, place.keyless, place.forwarded)
        style = "red" if place.wrong or place.keyless else "dim" if not place.records else ""
        out.add_row(place.topic, *(f"{count:,}" for count in counts), style=style)
    return out


def remarks(found: Sequence[Placement]) -> list[str]:
    """Return a line for each topic with records in wrong partitions, or that was not read to its end."""
    out = []
    for place in found:
        if place.wrong:
            client = place.guess().client or "the client cannot be told from the keys"
            out.append(f"{place.topic}: {place.wrong:,} records in wrong partitions: {client}")
        if not place.complete:
            out.append(f"{place.topic}: the time was up before all of it was read (--seconds, --newest)")
    return out
