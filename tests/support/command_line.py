"""The real command line, parsed and not run."""

from __future__ import annotations

from typing import Any

import typer

from headrace.console.main import app

UsageError: Any = typer.BadParameter.__base__  # typer brings its own copy of click


def parse_headrace(arguments: list[str]) -> None:
    """Parse arguments with the real command line, without running anything; raise what it would."""
    command = typer.main.get_command(app)
    context = command.make_context("headrace", list(arguments))
    while hasattr(command, "resolve_command"):  # a group: go on with its subcommand
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
