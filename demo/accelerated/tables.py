"""The figures of runs in simulated time as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from headrace.demo.accelerated.explain import STEPS

#: Label, key of the figures, format; of a list of thirds, each has the format.
LINES = (
    ("click rate, our lists", "ctr_ours", "{:.2%}"),
    ("    by third", "ctr_ours_by_third", "{:.2%}"),
    ("click rate, popular list", "ctr_popularity", "{:.2%}"),
    ("ratio", "ratio", "{:.2f}"),
    ("    by third", "ratio_by_third", "{:.2f}"),
    ("of the best possible clicks", "best_ours", "{:.1%}"),
    ("    by third", "best_ours_by_third", "{:.1%}"),
    ("popular list, of the best possible", "best_popularity", "{:.1%}"),
    ("new items, share of the slots", "new_share", "{:.1%}"),
    ("new items, click rate", "new_ctr", "{:.2%}"),
    ("AUC of the online model", "online_auc", "{:.3f}"),
    ("    long views", "online_long_view_auc", "{:.3f}"),
    ("    likes", "online_like_auc", "{:.3f}"),
    ("calibration of the online model", "online_calibration", "{:.3f}"),
    ("    long views", "online_long_view_calibration", "{:.3f}"),
    ("    likes", "online_like_calibration", "{:.3f}"),
    ("before the shift, of the best possible", "best_before_shift", "{:.1%}"),
    ("after the shift, at the worst", "best_at_worst", "{:.1%}"),
    ("half of the loss recovered after", "half_recovered_s", "{:.0f} s"),
    ("rankers trained", "trainings", "{}"),
    ("CPU seconds", "cpu_s", "{:.0f}"),
)


def lines(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the figures of runs side by side, by the name of the run."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right", no_wrap=True)
    for label, key, form in LINES:
        if any(key in figures for figures in found.values()):
            table.add_row(label, *(_cell(figures.get(key), form) for figures in found.values()))
    return table


def _cell(value: Any, form: str) -> str:
    if isinstance(value, list):
        return "  ".join(map(form.format, value))
    return "-" if value is None else form.format(value)


def losses(explained: Mapping[str, Mapping[str, float]]) -> Table:
    """Return what lists lose, one column for each group of users; the column sums up to 100 %."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("")
    for name in explained:
        table.add_column(name, justify="right")
    table.add_row("lists", *(f"{one['lists']:,.0f}" for one in explained.values()))
    for step, label in STEPS.items():
        table.add_row(label, *(f"{100 * one[step]:.1f}" for one in explained.values()))
    table.add_row("left", *(f"{100 * one['share']:.1f}" for one in explained.values()), style="bold")
    return table
