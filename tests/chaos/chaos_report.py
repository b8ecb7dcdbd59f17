"""The plan and the outcome of a chaos run on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos_plan import Action
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

#: Key of the figures -> its label.
LINES = (
    ("seconds", "seconds"),
    ("events", "events produced"),
    ("sent_again", "of them sent again on purpose"),
    ("duplicates", "of them repetitions within the window"),
    ("kills", "kills (-9)"),
    ("kills_by_role", ""),
    ("zombies", "zombies (frozen past their session)"),
    ("joins", "joins"),
    ("leaves", "leaves"),
    ("rebalances", "rebalances"),
    ("rebalances_by_role", ""),
    ("broker_restarts", "broker restarts"),
    ("broker_away_s", "the broker was away for, s"),
    ("server_freezes", "times the broker or Redis were frozen"),
    ("redis_losses", "times Redis lost its data"),
    ("refused_starts", "starts in vain while the broker was down"),
    ("max_lag_s", "longest lag seen, s"),
    ("catch_up_s", "caught up after, s"),
    ("requests", "requests"),
    ("answered", "of them answered"),
    ("answered_in_2_s", "of them within 2 s"),
    ("reply_p50_ms", "median wait for the reply, ms"),
    ("reply_max_ms", "longest wait for the reply, ms"),
    ("shown", "lists shown"),
    ("labelled", "of them labelled"),
    ("examples", "examples"),
    ("examples_logged", "of them in the Parquet log"),
    ("bad_records", "bad records"),
    ("dead_letters", "of them dead letters"),
    ("values_compared", "values compared with the oracle"),
    ("differences", "differences"),
)


def print_plan(out: Console, plan: Sequence[Action]) -> None:
    """Print the actions and their times."""
    table = Table("at, s", "what", "to", "for, s", box=SIMPLE)
    for action in plan:
        table.add_row(f"{action.at_s:.1f}", action.kind, action.target, f"{action.for_s:.1f}")
    out.print(table)


def print_summary(out: Console, figures: dict[str, Any]) -> None:
    """Print the figures and the problems."""
    table = Table(box=SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, text in LINES:
        if key in figures:
            table.add_row(text, _text(figures[key]))
    out.print(table)
    for line in figures.get("crashes", ()):
        out.print(f"  ended: {line}", style="yellow", markup=False, soft_wrap=True)
    for line, count in figures.get("errors_logged", {}).items():
        out.print(f"  logged {count}x: {line}", style="dim", markup=False, soft_wrap=True)
    for line in figures.get("first", ()):
        out.print(f"  difference: {line}", style="red", markup=False, soft_wrap=True)
    for line in figures["problems"]:
        out.print(f"FAILED: {line}", style="bold red", markup=False, soft_wrap=True)
    if figures["ok"]:
        out.print(f"seed {figures['seed']}: nothing lost, nothing counted twice", style="bold green")
    else:
        out.print(f"again with the same plan: make chaos SEED={figures['seed']}", markup=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)
