"""Runs of the simulated audience in one picture: click rate, share of the best list, AUC, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from headrace.models.learning.report_charts import BLUE, GREY, ORANGE

#: The series of a panel, and what its axis says.
PANELS = (
    ("ctr_ours", "click rate"),
    ("best_ours", "share of the best possible clicks"),
    ("online_auc", "AUC of the online model, position unknown"),
)
_COLOURS = (BLUE, ORANGE)
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def draw(runs: Mapping[str, Mapping[str, Sequence[float]]], path: Path, shift_s: float = 0.0) -> None:
    """Write a picture (PNG) of runs to ``path``.

    Parameters
    ----------
    runs
        The series of ``figures.over_time``, by the name of the run; at most two.
    shift_s
        When all tastes moved, s; 0: never.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12, 3.6), layout="constrained", dpi=90)
        for axes, (name, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            _panel(axes, runs, name)
            axes.set_title(label, fontsize=10, loc="left")
            axes.set_xlabel("simulated seconds")
            if shift_s:
                axes.axvline(shift_s, color=GREY, linestyle=":", linewidth=1.2)
        figure.axes[0].legend(loc="lower right")
        figure.savefig(path, metadata={"Software": None})


def _panel(axes: Any, runs: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> None:
    for (run, series), colour in zip(runs.items(), _COLOURS, strict=False):
        if series[name]:
            axes.plot(series["at_s"], series[name], color=colour, label=run)
    first = next(iter(runs.values()))
    other = {"ctr_ours": "ctr_popularity", "best_ours": "best_popularity"}.get(name)
    if other:
        axes.plot(first["at_s"], first[other], color=GREY, linestyle="--", label="popular list")
        axes.set_ylim(bottom=0)
