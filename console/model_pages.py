"""What ``headrace models`` prints: tables and lines from rankers, pointers and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.models.learning import counterfactual, tried_settings
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.kinds import RANKER, Kind
from headrace.models.learning.pointers import Pointers, stage_name
from headrace.models.learning.registry import About
from headrace.models.learning.rollout import differences
from headrace.models.learning.sequential import Difference
from headrace.models.learning.shadow_choice import is_evidence, shadow_difference
from headrace.models.learning.shelf import Shelf

_STYLES = {"live": "green", "candidate": "cyan", "refused": "dim"}
_TITLES = {"clicks": "clicks", "watch_ms": "watch time", "returning": "users who return"}


def model_rows(found: Sequence[About], shelf: Shelf) -> list[dict[str, Any]]:
    """Return a row for each version in the registry, and for those that only `models` has."""
    rows = [
        {
            "version": a.version,
            "use": use_of(a.version, shelf.pointers) or ("refused" if a.refused else ""),
            "created_ts": a.created_ts,
            "origin": a.origin,
            "auc": a.metrics.get("auc"),
            "examples": a.metrics.get("rows"),
            "note": a.refused,
        }
        for a in found
    ]
    known = {a.version for a in found}
    only_there = [v for v in shelf.texts if v not in known and use_of(v, shelf.pointers)]
    blank = {"created_ts": 0, "origin": "published", "auc": None, "examples": None}
    here = "not in this registry"
    return rows + [
        {"version": v, "use": use_of(v, shelf.pointers), **blank, "note": here} for v in only_there
    ]


def use_of(version: str, p: Pointers) -> str:
    """Return what a version is used for; empty: nothing."""
    if version == p.candidate:
        return f"candidate, {stage_name(p.share)}"
    named = {p.live: "live", p.previous: "previous", p.waiting: "waiting"}
    if version in p.candidates():
        return f"candidate, {stage_name(0)}"
    return named.get(version, "")


def model_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the rankers as a table."""
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("version", "use", "made (UTC)", "origin"):
        table.add_column(name, no_wrap=True)
    table.add_column("AUC", justify="right")
    table.add_column("examples", justify="right")
    table.add_column("note", overflow="fold")
    for row in rows:
        auc = f"{row['auc']:.4f}" if row["auc"] is not None else ""
        examples = f"{row['examples']:,.0f}" if row["examples"] is not None else ""
        cells = (row["version"], row["use"], when(row["created_ts"]), row["origin"], auc, examples)
        style = _STYLES.get(str(row["use"]).split(",")[0], "")
        table.add_row(*map(Text, cells), Text(row["note"]), style=style)
    return table


def when(ts: int) -> str:
    """Return a time, ms, for people; empty for 0."""
    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M") if ts else ""


def pointer_line(p: Pointers, kind: Kind = RANKER) -> Text:
    """Return what is in use, in one line."""
    if not p.live:
        none = "no ranker is in use yet" if kind is RANKER else "no settings were tried yet"
        return Text(none)
    parts = [f"live {p.live}" if kind is RANKER else f"live settings {p.live}"]
    if p.candidate:
        parts.append(f"candidate {p.candidate} at {stage_name(p.share)} since {when(p.stage_ts)}")
    if p.others:
        parts.append(f"beside it in the shadow {', '.join(one.version for one in p.others)}")
    parts += [f"previous {p.previous}"] if p.previous else []
    parts += [f"waiting {p.waiting}"] if p.waiting else []
    if p.by:
        parts.append(f"changed by {p.by}" + (f": {p.reason}" if p.reason else ""))
    return Text(" · ".join(parts))


def about_page(
    about: About, gains: Mapping[str, float], changes: Mapping[str, str] | None = None
) -> RenderableType:
    """Return what is known of a version, and its most important features; of settings, their changes."""
    table = Table(box=None, show_header=False, pad_edge=False)
    told = {
        "version": about.version,
        "made (UTC)": when(about.created_ts),
        "origin": about.origin,
        "refused": about.refused,
        "checksum": about.checksum,
        "features": str(len(about.features)),
    }
    if changes is not None:
        told |= {"changes": tried_settings.told(changes)}
    told |= {name: f"{value:,.4f}".rstrip("0").rstrip(".") for name, value in about.metrics.items()}
    for name, value in told.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    if not gains:
        return table
    share = Table(box=SIMPLE, pad_edge=False)
    share.add_column("feature")
    share.add_column("share of the gain", justify="right")
    for name, gain in list(gains.items())[:10]:
        share.add_row(name, f"{gain:.1%}")
    return Group(table, share)


def comparison(counts: ArmCounts, alpha: float, candidates: Sequence[str] = ()) -> dict[str, Any]:
    """Return the figures of both arms, their differences with intervals, and the estimates of the shadow.

    These are of each of the candidates, by version; where none is named, of the one that goes further.
    Settings have no shadow. ``alpha`` is of one candidate.
    """
    every = candidates or (counts.versions[1],)
    return {
        "kind": counts.kind.name,
        "stage": stage_name(counts.share),
        "since_ts": counts.since,
        "alpha": alpha,
        "arms": counts.figures(),
        "differences": {name: _figures(d) for name, d in differences(counts, alpha).items()},
        "shadow": {v: _shadow(counts, v, alpha) for v in every} if counts.kind is RANKER else None,
    }


def _shadow(counts: ArmCounts, version: str, alpha: float) -> dict[str, Any]:
    """Return the estimates of a candidate."""
    totals = counts.shadows.get(version, np.zeros((len(counterfactual.NAMES), 1), np.int64))
    return {
        "agreement": _known(counterfactual.agreement(totals)),
        "support": _known(counterfactual.support(totals)),
        "logged": _figures(counterfactual.logged(totals)),
        "snips": _figures(counterfactual.snips(totals)),
        "doubly_robust": _figures(counterfactual.doubly_robust(totals)),
        "difference": _figures(shadow_difference(totals, alpha)),
    }


def _figures(record: Difference | counterfactual.Estimate) -> dict[str, float | None]:
    return {name: _known(value) for name, value in asdict(record).items()}


def _known(value: float) -> float | None:
    """Return None for what is not known: JSON has no NaN."""
    return value if math.isfinite(value) else None


def comparison_page(figures: Mapping[str, Any]) -> RenderableType:
    """Return the result of ``comparison`` as tables."""
    arms = Table(box=SIMPLE, pad_edge=False)
    for name in ("arm", "version"):
        arms.add_column(name)
    for name in ("examples", "clicks", "click rate", "watched", "return"):
        arms.add_column(name, justify="right")
    for arm, f in figures["arms"].items():
        rate = f"{f['clicks'] / f['examples']:.2%}" if f["examples"] else ""
        watched = f"{f['watch_s'] / 3600:,.1f} h"
        returned = f"{f['returned'] / f['came']:.1%}" if f["came"] else ""
        arms.add_row(arm, f["version"], f"{f['examples']:,}", f"{f['clicks']:,}", rate, watched, returned)
    head = Text(f"stage {figures['stage']}, since {when(figures['since_ts'])} UTC")
    told = [Text(_difference(_TITLES[name], d)) for name, d in figures["differences"].items()]
    shadows = [line for version, s in (figures["shadow"] or {}).items() for line in _shadow_lines(version, s)]
    return Group(head, arms, *told, *shadows)


def _difference(name: str, d: Mapping[str, Any]) -> str:
    if d["low"] is None or d["value"] is None:
        return f"{name}: not enough users yet"
    verdict = "better" if d["low"] > 0 else "worse" if d["high"] < 0 else "neither better nor worse yet"
    return f"{name}: {d['value']:+.1%}, surely {d['low']:+.1%} to {d['high']:+.1%}: {verdict}"


def _shadow_lines(version: str, shadow: Mapping[str, Any]) -> list[Text]:
    if shadow["agreement"] is None:
        return [Text(f"\n{version}: no list with a shadow is counted yet", style="dim")]
    same, weight = f"{shadow['agreement']:.0%} of the slots would be the same", shadow["support"]
    out = [Text(f"\n{version}: in the lists of the live arm, {same}; mean weight {weight:.2f}")]
    titles = {
        "logged": "clicked there",
        "snips": "would be clicked (SNIPS)",
        "doubly_robust": "would be clicked (doubly robust)",
    }
    for name, title in titles.items():
        e = shadow[name]
        value = "not known" if e["value"] is None else f"{e['value']:.2%} ({e['low']:.2%} to {e['high']:.2%})"
        out.append(Text(f"{title}: {value}"))
    if not is_evidence(weight):
        return [*out, Text("the mean weight is not about 1: that is no evidence", style="dim")]
    return [*out, Text(_difference("clicks, in the shadow", shadow["difference"]))]
