"""``headrace acls``: prints what each role may do in Kafka, as commands or as a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from headrace.console import options
from headrace.streams.errors import ConfigError


def acls(
    role: Annotated[
        str | None,
        typer.Argument(help="A role, or: producer, caller, lag, operator. Without it: every one."),
    ] = None,
    principal: Annotated[
        str, typer.Option(help="Kafka's name of the user; {role} is replaced by the role.")
    ] = "User:headrace-{role}",
    as_table: Annotated[bool, typer.Option("--table", help="Print a table in Markdown instead.")] = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Print the commands of Kafka that allow each role what it needs, and no more.

    Nothing is changed, and no broker is asked. [bold]admin.properties[/] is a file of yours, with the
    security settings of somebody who may alter ACLs.

    Example: [bold]headrace acls ingest --principal User:CN=ingest[/]
    """
    settings = options.read_settings(brokers)
    from headrace.streams.topics import acls as rights

    if role is not None and role not in rights.users():
        raise ConfigError(f"unknown role {role}: choose from {', '.join(rights.users())}")
    chosen = rights.users() if role is None else (role,)
    options.write_json(
        json_path, {user: [asdict(grant) for grant in rights.grants(user, settings)] for user in chosen}
    )
    if as_table:
        typer.echo("| user | reads | writes | groups | also |\n|---|---|---|---|---|")
        for row in rights.table(settings):
            if row[0].strip("`") in chosen:
                typer.echo(f"| {' | '.join(row)} |")
        return
    for user in chosen:
        for command in rights.commands(user, settings, principal.replace("{role}", user)):
            typer.echo(command)
