"""Write the tables of docs/capacity.md again: ``python bench/capacity_page.py``.

They stand between comments that name them. They follow from the constants that are shipped and from
``bench/sizes/checked.json`` (``make bench-capacity JSON=bench/sizes/checked.json``). A test compares them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sizes.predicted import compared

from headrace.console.capacity_page import amount
from headrace.console.sizing.constants import Constants, shipped
from headrace.console.sizing.estimate import Estimate, estimate
from headrace.console.sizing.load import Load
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "capacity.md"
CHECKED = Path(__file__).parent / "sizes" / "checked.json"
#: The load that the project was designed for, and one of a middle-sized shop.
LARGE = Load(users=5e8, active_users=1e7, items=1e7, requests_per_s=58_000, events_per_s=1_450_000)
MIDDLE = Load(users=1e6, items=1e5, requests_per_s=200, events_per_s=5000)


def table(*rows: tuple[str, ...]) -> str:
    """Return a table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def installation(found: Estimate) -> str:
    """Return partitions, stores and what does not work."""
    rows = [(f"{f.of}: {f.what}", _full(f.value, f.unit)) for f in (*found.whole, found.redis[-1])]
    out = table(("", ""), *rows)
    return out + "".join(f"\n\n> {text}" for text in found.limits)


def _full(value: float, unit: str) -> str:
    return amount(value, unit) + (" a month" if unit.endswith("month") else "")


def roles(found: Estimate) -> str:
    """Return the table of the roles."""
    whats = ("workers", "cores", "memory of a worker", "read", "written")
    rows = []
    for role in found.roles:
        by_what = {f.what: f for f in role.figures}
        rows.append((f"`{role.role}`", *(amount(by_what[w].value, by_what[w].unit) for w in whats)))
    return table(("role", *whats[:3], "read in a month", "written in a month"), *rows)


def topics(found: Estimate) -> str:
    """Return the table of the topics."""
    names, rows = Topics(Settings.model_construct()), []
    for name, topic in found.topics.items():
        kept, written = topic.figures
        rows.append((
            f"`{getattr(names, name)}`", f"{topic.records_per_s:,.0f}", f"{topic.record_bytes:,.0f}",
            amount(kept.value, kept.unit), amount(written.value, written.unit),
        ))  # fmt: skip
    return table(("topic", "records/s", "bytes of one", "kept", "written in a month"), *rows)


def redis(found: Estimate) -> str:
    """Return the table of Redis."""
    return table(("rows", "memory"), *((f.what, amount(f.value, f.unit)) for f in found.redis))


def checks(constants: Constants) -> str:
    """Return predictions beside measurements, at every size."""
    checked = json.loads(CHECKED.read_text("utf-8"))
    sizes = [(one["counted"]["users"], compared(one, constants)) for one in checked["sizes"]]
    head = ("predicted / measured (error)", *(f"{users:,} users" for users, _ in sizes))
    rows = []
    for lines in zip(*(lines for _, lines in sizes), strict=True):
        cells = (f"{one.predicted:,.1f} / {one.measured:,.1f} ({one.error:+.0%})" for one in lines)
        rows.append((f"{lines[0].what}, {lines[0].unit}", *cells))
    run = checked["run"]
    told = f"`{run['command']}`, {run['date']}, commit {run['commit'][:12]}; {run['machine']}."
    return f"{table(head, *rows)}\n\n{told}"


def runs(constants: Constants) -> str:
    """Return where the constants come from."""
    found = sorted(constants.runs.items())
    rows = [(f"`{run.command}`", run.date, run.commit[:12], run.machine) for _, run in found]
    return table(("command", "day", "commit", "machine"), *rows)


def parts() -> dict[str, str]:
    """Return every part of the page that is written here, by its name."""
    settings, constants = Settings(**_DEFAULTS), shipped()
    large, middle = (estimate(load, settings, constants) for load in (LARGE, MIDDLE))
    return {
        "large": installation(large), "large roles": roles(large), "large redis": redis(large),
        "large topics": topics(large), "middle": installation(middle), "middle roles": roles(middle),
        "checks": checks(constants), "runs": runs(constants),
    }  # fmt: skip


#: The page does not follow the environment of who writes it.
_DEFAULTS = {name: field.get_default() for name, field in Settings.model_fields.items()}


def written(page: str) -> str:
    """Return a page with its parts written anew."""
    for name, text in parts().items():
        begin, end = f"<!-- {name}: written by bench/capacity_page.py -->", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        page, count = re.subn(pattern, lambda _: f"{begin}\n\n{text}\n\n{end}", page, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            raise SystemExit(f"{PAGE.name} has no place for {name}, or several")
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
