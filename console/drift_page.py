"""What ``headrace models drift`` prints: how far each feature has moved since a training."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.models.learning.histograms import OTHER, SHIFTED, Drift

_BARS = " ▁▂▃▄▅▆▇█"


def drift_table(version: str, slots: int, found: Sequence[Drift]) -> RenderableType:
    """Return the features as a table, the farthest first."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("feature", no_wrap=True)
    table.add_column("PSI", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("trained", no_wrap=True)
    table.add_column("served", no_wrap=True)
    for one in found:
        verdict, style = verdict_of(one.psi)
        most = max(*one.trained, *one.served)
        bars = (_bars(shares, most) for shares in (one.trained, one.served))
        table.add_row(Text(one.feature), f"{one.psi:.3f}", verdict, *map(Text, bars), style=style)
    head = Text(f"ranker {version}: its training, and the newest {slots:,} shown slots")
    return Group(head, table)


def verdict_of(psi: float) -> tuple[str, str]:
    """Return what a value means, and its style."""
    if psi >= OTHER:
        return "very different", "red"
    return ("shifted", "yellow") if psi >= SHIFTED else ("", "")


def _bars(shares: Sequence[float], most: float) -> str:
    """Return shares as bars, one character a bin; the smallest share that is not 0 can be seen."""
    steps = len(_BARS) - 1
    return "".join(_BARS[ceil(share / most * steps)] for share in shares)
