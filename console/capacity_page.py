"""What ``headrace capacity`` prints."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from headrace.console.sizing.constants import Constants
from headrace.console.sizing.estimate import Estimate
from headrace.console.sizing.figures import Figure
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

_STEPS = (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def amount(value: float, unit: str) -> str:
    """Return a figure for people: bytes in powers of a thousand, counts with commas."""
    if unit.startswith("bytes"):
        name, step = next(((n, s) for n, s in _STEPS if value >= s), ("B", 1.0))
        return f"{value / step:.3g} {name}" if value < 999.5 * step else f"{value / step:,.0f} {name}"
    return f"{value:,.0f}" if unit != "cores" or value >= 100 else f"{value:.2g}"


def page(found: Estimate, constants: Constants, settings: Settings, *, why: bool) -> RenderableType:
    """Return the tables; with ``why`` also the formula and the constants of every figure."""
    parts: list[RenderableType] = [_whole(found), _roles(found), _redis(found), _topics(found, settings)]
    if found.limits:
        limits = Table(title="What does not work at this load", title_justify="left", show_header=False)
        for text in found.limits:
            limits.add_row(text)
        parts.insert(0, limits)
    if why:
        parts += [_why(found), _constants(found, constants)]
    return Group(*parts)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _whole(found: Estimate) -> Table:
    table = _table("The installation", "what", "")
    for figure in (*found.whole, found.redis[-1]):
        table.add_row(f"{figure.of}: {figure.what}", _with_month(figure))
    return table


def _with_month(figure: Figure) -> str:
    return amount(figure.value, figure.unit) + (" a month" if figure.unit.endswith("month") else "")


def _roles(found: Estimate) -> Table:
    columns = ("workers", "cores", "memory of a worker", "read", "written")
    table = _table("Roles (bytes are of a month)", "role", *columns)
    for role in found.roles:
        by_what = {figure.what: figure for figure in role.figures}
        table.add_row(role.role, *(amount(by_what[c].value, by_what[c].unit) for c in columns))
    for role in found.roles:
        for figure in role.figures:
            if figure.what not in columns:
                table.add_row(
                    f"{role.role}: {figure.what}", "", "", amount(figure.value, figure.unit), "", ""
                )
    return table


def _redis(found: Estimate) -> Table:
    table = _table("Redis", "rows", "memory")
    for figure in found.redis:
        table.add_row(figure.what, amount(figure.value, figure.unit))
    return table


def _topics(found: Estimate, settings: Settings) -> Table:
    names = Topics(settings)
    columns = ("records/s", "bytes of one", "kept, with replicas", "written in a month")
    table = _table("Kafka", "topic", *columns)
    for name, topic in found.topics.items():
        kept, written = topic.figures
        numbers = (f"{topic.records_per_s:,.0f}", f"{topic.record_bytes:,.0f}")
        table.add_row(
            getattr(names, name), *numbers, amount(kept.value, "bytes"), amount(written.value, "bytes")
        )
    return table


def _why(found: Estimate) -> Table:
    table = Table(title="How", title_justify="left")
    for column in ("figure", "is", "constants"):
        table.add_column(column, overflow="fold")
    for figure in found.figures():
        table.add_row(f"{figure.of}: {figure.what}", figure.how, ", ".join(figure.constants))
    return table


def _constants(found: Estimate, constants: Constants) -> Table:
    table = Table(title="Constants, measured by the benchmarks", title_justify="left")
    for column in ("constant", "value", "what it is", "from"):
        table.add_column(column, overflow="fold")
    for name in sorted({name for figure in found.figures() for name in figure.constants}):
        one, run = constants.of(name), constants.runs[constants.of(name).run]
        points = one.value if isinstance(one.value, list) else None
        shown = ", ".join(f"{x:g}: {y:g}" for x, y in points) if points else f"{one.value:g}"
        where = f"{run.command} ({one.at}), {run.date}, {run.commit[:12]}, {run.machine}"
        table.add_row(name, f"{shown} {one.unit}", one.meaning, where)
    return table
