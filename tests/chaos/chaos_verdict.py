"""Checks that a chaos run lost and repeated nothing: the lag is 0, ``headrace verify``, the audit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from chaos_audit import audit
from chaos_http import Http
from chaos_log import Log

from headrace.demo.stack import environment
from headrace.oracle.features.slot_labels import LABELS
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.flow import group_reads
from headrace.streams.topics.lag import LagRow, lag

CATCH_UP_S = 120.0
VERIFY_S = 900.0
#: Redis may not be refilled from Kafka yet when the agents have caught up. There is always a second look: one
#: alone may take as long.
REFILL_S = 30.0
LAG_EVERY_S = 8.0
#: Longest wait for ingest to read the first catalogue and profiles.
KNOWN_S = 30.0
#: Figures of ``headrace verify`` that are numbers of rows of a table.
TABLES = ("users", "items", "countries", "neighbours")
#: What it must have compared: the load has some of each.
COMPARED = (
    "items shown lately",
    "users who hid items",
    "users who hid creators",
    "items of the catalogue snapshot",
    "shown slots that the online model has learnt",
    "traces made again",
)


class Verdict:
    """Watches the lag during the run; checks everything afterwards.

    ``operator`` is the settings of who runs commands.
    """

    def __init__(
        self, settings: Settings, operator: Settings, folder: Path, log: Log, marks: Mapping[str, str]
    ) -> None:
        self.settings, self._operator = settings, operator
        self.max_lag_s: dict[str, float] = {}
        self._folder, self._log, self._marks = folder, log, marks

    async def watch_lag(self) -> None:
        """Print the lag of every agent at intervals until cancelled."""
        while True:
            await asyncio.sleep(LAG_EVERY_S)
            rows = await self._lag()
            for row in rows or ():
                if row.records and row.seconds is not None:
                    self.max_lag_s[row.agent] = max(self.max_lag_s.get(row.agent, 0.0), row.seconds)
            if rows is not None:
                self._log.tell(f"lag        {describe(rows)}", style="dim")

    async def _lag(self) -> list[LagRow] | None:
        with contextlib.suppress(UnavailableError, KafkaError, OSError, TimeoutError):
            return await asyncio.wait_for(lag(self._operator), 10.0)
        return None

    async def catch_up(self) -> None:
        """Wait until every agent has read everything; note how long it took."""
        began = time.monotonic()
        problems = await self.until_caught_up()
        took = time.monotonic() - began
        self._log.figures |= {"caught_up": not problems, "catch_up_s": round(took, 1)}
        self._log.problems.extend(problems)
        self._log.tell(problems[0] if problems else f"caught up after {took:.1f} s")

    async def until_caught_up(self) -> list[str]:
        """Wait until every agent has read everything, twice in a row; return what is wrong with it."""
        began, good, rows = time.monotonic(), 0, None
        while good < 2 and time.monotonic() - began < CATCH_UP_S:
            await asyncio.sleep(1.5)
            rows = await self._lag()
            there = {row.agent for row in rows or ()}
            done = rows and there >= group_reads().keys() and not any(r.records for r in rows)
            good = good + 1 if done else 0
        return [] if good >= 2 else [f"not caught up within {CATCH_UP_S:.0f} s: {describe(rows or [])}"]

    async def known_to(self, role: str, names: set[str]) -> None:
        """Wait until a role has read all of some topics, 30 s at most."""
        deadline = time.monotonic() + KNOWN_S
        while time.monotonic() < deadline:
            rows = [row for row in await self._lag() or () if row.agent == role and row.topic in names]
            if rows and not any(row.records for row in rows):
                return
            await asyncio.sleep(0.5)

    # -- headrace verify

    async def verify(self) -> None:
        """Run ``headrace verify``, more than once if necessary: Redis may not be refilled yet."""
        path, began = self._folder / "verify.json", time.monotonic()
        looks, shrunk, least = 0, 0, math.inf
        while True:
            looks += 1
            path.unlink(missing_ok=True)
            code = await self._command("verify", "verify", "--first", "1000", "--json", str(path))
            found = json.loads(path.read_text("utf-8")) if path.exists() else {}
            if found.get("differences", math.inf) < least:
                shrunk, least = looks, found["differences"]
            over = looks >= 2 and time.monotonic() - began > REFILL_S
            if code != 1 or looks - shrunk >= 2 or over:
                break
            first = [text_of(difference) for difference in found.get("first", [])[:1]]
            self._log.tell(f"verify finds {found.get('differences')} differences: {first}", style="yellow")
            await asyncio.sleep(3.0)
        self._note(code, found, looks)

    def _note(self, code: int, found: dict[str, Any], looks: int) -> None:
        figures = self._log.figures
        keys = ("differences", "values_compared", *TABLES, "shown_rows", "rejected")
        figures |= {key: found[key] for key in keys if key in found}
        figures |= {"verify_looks": looks, "duplicates": found.get("duplicates")}
        figures["verified_events"] = found.get("events")
        if code == 1:
            self._log.problems.append(f"verify finds {found.get('differences')} differences")
            figures["first"] = some_of_each(found.get("first", []))
        elif code:
            why = f"exit code {code}" if code >= 0 else f"it did not end within {VERIFY_S:.0f} s"
            self._log.problems.append(f"verify could not verify ({why})")
        kinds = found.get("compared", {})
        nothing = [kind for kind in COMPARED if not kinds.get(kind)]
        if nothing and not code:
            self._log.problems.append(f"verify compared none of: {', '.join(nothing)}")
        compared = found.get("values_compared")
        self._log.tell(f"verify: {found.get('differences')} differences in {compared} values")

    async def _command(self, log: str, *arguments: str) -> int:
        with (self._folder / f"{log}.out").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headrace", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment(self._operator) | dict(self._marks), start_new_session=True,
            )  # fmt: skip
        try:
            return await asyncio.wait_for(process.wait(), VERIFY_S)
        except TimeoutError:
            return -1
        finally:
            if process.returncode is None:
                process.kill()

    # -- topics

    async def audit(self, load: Collection[str], http: Http) -> None:
        """Compare the topics with each other, and with what callers over HTTP were told.

        ``load`` says what the load had besides: of that, some must have been met.
        """
        found = await audit(self.settings)
        self._log.problems.extend(found.problems())
        self._log.problems.extend(found.demands.unmet())
        if "greedy" in load and not found.errors()["rate_limited"]:
            self._log.problems.append("no request was refused for its caller's rate")
        if "gateway" in load:
            self._log.problems.extend(http.compare(found))
            self._log.figures |= http.figures()
        if missing := set(LABELS) - found.labels.keys():
            self._log.problems.append(f"no example has the label {', '.join(sorted(missing))}")
        self._log.figures |= found.figures()

    def evictions(self) -> None:
        """Check that every table has more rows than fit into the memory of its partitions."""
        fit = self.settings.memory_rows * self.settings.partitions
        rows = {name: self._log.figures.get(name) for name in TABLES}
        evicted = {name: n - fit for name, n in rows.items() if n is not None}
        self._log.figures["evicted_at_least"] = evicted
        few = [name for name, n in evicted.items() if n <= 0]
        if few:
            self._log.problems.append(f"too few rows, so none had to be evicted: {', '.join(few)}")


def describe(rows: list[LagRow]) -> str:
    """Return the lag of every agent in a line."""
    records: Counter[str] = Counter()
    for row in rows:
        records[row.agent] += row.records
    return ", ".join(f"{agent} {count:,}" for agent, count in sorted(records.items())) or "unknown"


def some_of_each(differences: list[dict[str, Any]]) -> list[str]:
    """Return the first three differences of each of the first rows that differ, and how many each row has."""
    rows: dict[str, list[str]] = {}
    for difference in differences:
        rows.setdefault(difference["row"], []).append(text_of(difference))
    told = list(rows.items())
    return [
        *(text for _, texts in told[:8] for text in texts[:3]),
        *(f"{row}: {len(texts)} differences" for row, texts in told[:30]),
    ]


def text_of(difference: dict[str, Any]) -> str:
    """Return a difference that ``verify`` found, in a line."""
    at = f" at {difference['at']}" if difference.get("at") else ""
    return "{row}: {feature}{at}: {expected} expected, {found} found".format_map(difference | {"at": at})
