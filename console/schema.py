"""``headrace schema``: prints the schema of an event, for producers that write Avro or Protobuf."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What the schema is written in."""

    AVRO = "avro"
    PROTOBUF = "protobuf"


def schema(kind: Annotated[Kind, typer.Argument(help="What it is written in.")]) -> None:
    """Print the schema of an event: schemas/event.avsc or schemas/event.proto.

    Register it under the subject of your topic, [bold]events-value[/].

    Example: [bold]headrace schema avro > event.avsc[/]
    """
    from headrace.streams.messages.formats import published

    typer.echo(published.avsc() if kind is Kind.AVRO else published.proto(), nl=False)
