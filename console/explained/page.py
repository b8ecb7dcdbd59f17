"""The pages of ``headrace explain``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.serving.traces.explained import Figures

#: Features told in the table; more are in the JSON.
_FEATURES = 3
_BY = {
    "explored": "at random",
    "fresh": "kept for new items",
    "long_tail": "kept for the long tail",
    "welcome": "drawn for a new user",
}


def show(out: Console, figures: Figures) -> None:
    """Print what made a reply."""
    for one in figures["lists"]:
        out.print(list_page(one))
    if figures["same"]:
        out.print("made again from what was logged: [green]the same bytes[/]")
    else:
        out.print("made again from what was logged: [red]not the same[/]")
    for line in sorted({line for one in figures["lists"] for line in one["differs"]}):
        out.print(Text(f"  differs: {line}", style="red"))
    for line in sorted({line for one in figures["lists"] for line in one["taken_from_the_log"]}):
        out.print(Text(f"  taken from the log: {line}", style="yellow"))


def list_page(one: Figures) -> RenderableType:
    """Return one list: its head, what filters left, its slots, and what another ranker changes."""
    parts: list[RenderableType] = [_head(one)]
    if one["filters"]:
        told = ", ".join(f"{f['filter'].split(':')[1]} {f['given']}→{f['kept']}" for f in one["filters"])
        parts.append(Text(f"filters: {told}; {one['candidates']} candidates were ranked"))
    parts.append(_slots(one))
    if "instead" in one:
        parts.append(_instead(one["instead"]))
    return Group(*parts)


def _head(one: Figures) -> Text:
    at = datetime.fromtimestamp(one["ts"] / 1000, UTC).isoformat(" ", "milliseconds")
    text = Text(f"{one['request_id']}: {one['surface']} for {one['user_id']}, {at}\n", style="bold")
    versions = ", ".join(f"{name} {version}" for name, version in (one["model"] or {}).items() if version)
    text.append(
        f"scored by {one['scorer'] or 'nothing: popular items'}; {versions or 'no model'}", style="not bold"
    )
    if one["degraded"]:
        text.append(f"\nwithout: {', '.join(one['degraded'])}", style="not bold yellow")
    return text


def _slots(one: Figures) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("item", no_wrap=True)
    table.add_column("score", justify="right")
    table.add_column("by score", justify="right")
    table.add_column("objectives", overflow="fold")
    table.add_column("sources", overflow="fold")
    table.add_column("features", overflow="fold")
    table.add_column("slot and chance", overflow="fold")
    table.add_column("why", overflow="fold")
    for slot in one["slots"]:
        table.add_row(
            str(slot["slot"]),
            Text(slot["item_id"]),
            f"{slot['score']:.4g}",
            _move(slot),
            _numbers(slot["objectives"]),
            Text(" ".join(slot["sources"])),
            Text(_numbers(dict(list(slot.get("features", {}).items())[:_FEATURES]), "+")),
            f"{_BY.get(slot.get('put_there_by', ''), '')} {slot['propensity']:.3g}".strip(),
            Text("; ".join(slot["why"])),
        )
    return table


def _move(slot: Figures) -> str:
    if "by_score" not in slot:
        return ""
    step = slot["by_score"] - slot["slot"]
    return str(slot["by_score"]) + (f" ↑{step}" if step > 0 else f" ↓{-step}" if step < 0 else "")


def _numbers(values: Mapping[str, float], sign: str = "") -> str:
    return "\n".join(f"{name} {value:{sign}.3g}" for name, value in values.items())


def _instead(other: Figures) -> RenderableType:
    slots = other["slots"]
    head = Text(
        f"with ranker {other['model']}, of the best {other['compared']} candidates: "
        f"{other['same_slots']} of {len(slots)} slots are the same",
        "bold",
    )
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("", "was", "item", "score", "score was", "by score", "by score was"):
        table.add_column(name, justify="left" if name == "item" else "right")
    for slot in slots:
        changed = slot["was"] != slot["slot"]
        table.add_row(
            str(slot["slot"]),
            str(slot["was"] or "new"),
            Text(slot["item_id"]),
            f"{slot['score']:.4g}",
            f"{slot['score_was']:.4g}",
            str(slot["by_score"]),
            str(slot["by_score_was"]),
            style="yellow" if changed else "",
        )
    gone = other["not_shown_any_more"]
    return Group(head, table, Text(f"not shown any more: {', '.join(gone) or 'none'}"))
