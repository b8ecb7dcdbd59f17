"""The charts of a report, as SVG to put into a page. Texts and axes have the colour of the page's text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

#: Colours that can be read on white and on black; texts and axes become ``currentColor``.
BLUE, ORANGE, GREY, _TEXT = "#4a8fe7", "#e07b39", "#8a8f98", "#010203"
#: Features in the chart of importance.
FEATURES = 15
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def charts(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the charts of a report by name, for each objective and of the whole, as SVG."""
    out = {"importance": _svg("importance", _importance, report["importance"])}
    for name, told in report["objectives"].items():
        out[f"reliability {name}"] = _svg(f"reliability-{name}", _reliability, told["reliability"])
        out[f"position {name}"] = _svg(f"position-{name}", _by_position, told["by_position"])
    if report["ablation"]:
        out["ablation"] = _svg("ablation", _ablation, report["ablation"][1:])
    return out


def _svg(name: str, draw: Any, told: Any) -> str:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(5.4, 3.5), layout="constrained")
        draw(figure.subplots(), told)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().replace(_TEXT, "currentColor")
    return text[text.index("<svg") :]


def _reliability(axes: Any, points: Sequence[Mapping[str, float]]) -> None:
    x, y = [p["predicted"] for p in points], [p["actual"] for p in points]
    most = max([*x, *y, 1e-6]) * 1.08
    axes.plot([0, most], [0, most], color=GREY, linestyle="--", linewidth=1, label="what is said happens")
    axes.plot(x, y, color=BLUE, marker="o", markersize=5, label="tenths of the slots")
    axes.set(xlabel="predicted", ylabel="happened", xlim=(0, most), ylim=(0, most))
    axes.legend(loc="upper left")


def _by_position(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    at = [r["position"] + 1 for r in rows]
    axes.plot(at, _known(rows, "actual"), color=BLUE, marker="o", markersize=4, label="happened")
    axes.plot(at, _known(rows, "predicted"), color=ORANGE, marker="s", markersize=4, label="predicted")
    explored = _known(rows, "explored_actual")
    axes.plot(
        at, explored, color=GREY, linestyle=":", marker="^", markersize=4, label="happened, explored slots"
    )
    most = max(
        (r[name] or 0.0 for r in rows for name in ("actual", "predicted", "explored_actual")), default=0
    )
    axes.set(xlabel="position", ylabel="rate", ylim=(0, 1.35 * most or 1))  # room for the legend
    axes.set_xticks(at if len(at) <= 10 else at[::2])
    axes.legend(loc="upper right")


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float("nan") if r[name] is None else r[name] for r in rows]


def _importance(axes: Any, gains: Mapping[str, float]) -> None:
    first = list(gains.items())[:FEATURES][::-1]
    axes.barh([n for n, _ in first], [100 * g for _, g in first], color=BLUE, height=0.7)
    axes.set(xlabel="share of the gain, %")
    axes.tick_params(axis="y", labelsize=9)
    axes.grid(visible=False, axis="y")


def _ablation(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    told = [row for row in rows if row["lost"]["value"] is not None][::-1]
    for k, row in enumerate(told):
        lost = row["lost"]
        axes.plot([lost["low"], lost["high"]], [k, k], color=BLUE, linewidth=2)
        axes.plot([lost["value"]], [k], color=BLUE, marker="o", markersize=6)
    axes.axvline(0, color=GREY, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(told)), [row["without"] for row in told])
    axes.set(xlabel="AUC lost without it, 95 % interval", ylim=(-0.6, len(told) - 0.4))
    axes.grid(visible=False, axis="y")
