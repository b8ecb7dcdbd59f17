"""The report of a training as one HTML file, that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headrace.models.learning.log_files import durable_file
from headrace.models.learning.places import Place
from headrace.models.learning.report import VIEWS, to_json

#: The modules that a page needs: the extra ``report``.
NEEDED = ("jinja2", "matplotlib")
_FIGURES = {
    "auc": "AUC",
    "list_auc": "AUC in lists",
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
    "log_loss": "log-loss",
    "calibration": "predicted / actual",
}
_TITLES = {"click": "Clicks", "long_view": "Long views", "like": "Likes"}


def can_be_made() -> bool:
    """Return whether the extra ``report`` is installed."""
    return all(find_spec(name) is not None for name in NEEDED)


def write(folder: Place, report: Mapping[str, Any]) -> list[Place]:
    """Write ``report.json``, and ``report.html`` if the extra is installed; return their paths.

    Raises
    ------
    OSError
        The disk does not take them.
    """
    files = {"report.json": to_json(report)}
    if can_be_made():
        files["report.html"] = page(report).encode()
    for name, content in files.items():
        with durable_file(folder / name) as handle:
            handle.write(content)
    return [folder / name for name in files]


def page(report: Mapping[str, Any]) -> str:
    """Return a report as HTML."""
    import jinja2
    from markupsafe import Markup

    from headrace.models.learning.report_charts import charts

    env = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    env.filters |= {"figure": _figure, "interval": _interval, "when": _when, "count": _count}
    template = env.from_string(Path(__file__).with_name("report_page.html").read_text("utf-8"))
    drawn = {name: Markup(svg) for name, svg in charts(report).items()}  # noqa: S704 - matplotlib escapes
    out: str = template.render(r=report, charts=drawn, views=VIEWS, figures=_FIGURES, titles=_TITLES)
    return out


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(told: Mapping[str, float | None]) -> str:
    low, high = told["low"], told["high"]
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _when(ts: int | None) -> str:
    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M") if ts else "-"


def _count(value: float) -> str:
    return f"{value:,.0f}"
