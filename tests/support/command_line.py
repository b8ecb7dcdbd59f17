"""The real command line: run in this process, or only parsed."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import typer
from rich.console import Console

from headrace.console import main as cli

UsageError: Any = typer.BadParameter.__base__  # typer brings its own copy of click


def run_headrace(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the program in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["headrace", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def plain_console() -> tuple[Console, io.StringIO]:
    """Return a console that is no terminal, and what it writes to."""
    out = io.StringIO()
    return Console(file=out, width=120, highlight=False), out


def parse_headrace(arguments: list[str]) -> None:
    """Parse arguments with the real command line, without running anything; raise what it would."""
    command = typer.main.get_command(cli.app)
    context = command.make_context("headrace", list(arguments))
    while hasattr(command, "resolve_command"):  # a group: go on with its subcommand
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
