"""What an open dashboard costs: ``make bench-page``. Prints JSON.

    python bench/bench_page.py [--seconds N]

A dashboard with 30 days of points of 40 series, in this process; it publishes as the role `monitor` does,
lag every second, and with every second one a point with all tables, all numbers changing. A headless Chromium
without a graphics card shows it. ``load_s``: from the request to charts and figures on the screen, with 30
days chosen. ``cpu``: CPU time of all processes of the browser, percent of a core, for each range; the last
one is while another tab is in front (``hidden``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from chromium import Page, page  # noqa: E402
from dashboards import PREFIXES, dashboard, fill_board, lag_row  # noqa: E402
from installation import now_ms  # noqa: E402

from headrace.agents.monitor import POINT_S  # noqa: E402
from headrace.serving.monitor.board import Board  # noqa: E402
from headrace.streams.topics.lag_watch import EVERY_S  # noqa: E402

#: The browser has more to do for a while after a page was loaded.
SETTLE_S = 30.0
NAMES = [f"{prefix}:{i}" for i in range(5) for prefix in PREFIXES]
READY = (
    "document.querySelectorAll('.plot canvas').length >= 4 && document.body.innerText.includes('all is well')"
)
AGENTS = ("track_users", "aggregate_items", "join_outcomes", "learn", "log", "recommend", "trainer", "index")


async def published(board: Board) -> None:
    """Publish as the role does, until cancelled."""
    rng, pointed = random.Random(1), 0.0
    while True:
        now = now_ms()
        rows = [
            lag_row(agent, records=rng.randrange(400), seconds=rng.random(), trend=rng.random())
            for agent in AGENTS
        ]
        if time.monotonic() - pointed >= POINT_S:
            pointed = time.monotonic()
            shown = board.now["clicks"][0]["shown"] + rng.randrange(80)
            point = {name: rng.random() for name in NAMES}
            board.hold(
                now,
                point={"at": now, "values": board.point(now / 1000, point)},
                workers=[
                    {**one, "cpu": rng.random(), "memory": 3e8 * rng.random()} for one in board.now["workers"]
                ],
                clicks=[{**board.now["clicks"][0], "shown": shown, "clicked": shown // 11}],
            )
        board.publish(now, lag={"verdict": "OK", "rows": rows, "missing": [], "at": now, "error": ""})
        await asyncio.sleep(EVERY_S)


def cpu_s(root: int) -> float:
    """Return the CPU time of a process and of all its descendants, s."""
    parents, times = dict[int, int](), dict[int, int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)], times[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:13]))
    mine, before = {root}, 0
    while len(mine) > before:
        before = len(mine)
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return sum(times.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def browser() -> int:
    """Return the id of the browser, a child of this process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (found,) = (int(pid) for pid in children if "chrom" in Path(f"/proc/{pid}/cmdline").read_text())
    return found


async def share(seconds: float) -> float:
    """Return the CPU time of the browser as a share of a core, in percent."""
    await asyncio.sleep(SETTLE_S)
    before, began = cpu_s(browser()), time.monotonic()
    await asyncio.sleep(seconds)
    return round(100 * (cpu_s(browser()) - before) / (time.monotonic() - began), 2)


async def measured(tab: Page, url: str, seconds: float) -> dict[str, Any]:
    """Open the page; measure."""
    await tab.look(1440, 1000)
    await tab.goto(f"{url}/")
    await tab.value("sessionStorage.setItem('headrace-range', '30d')")
    await tab.goto("about:blank")
    began = time.monotonic()
    await tab.goto(f"{url}/")
    await tab.until(READY)
    await tab.call("Network.disable")  # so that nobody is told of every piece of the stream
    out: dict[str, Any] = {"load_s": round(time.monotonic() - began, 2), "cpu": {"30d": await share(seconds)}}
    await tab.value("document.getElementById('range-15m').click()")
    out["cpu"]["15m"] = await share(seconds)
    await tab.value("document.getElementById('range-30d').click()")
    await tab.call("Target.createTarget", url="about:blank")
    out["hidden"] = await tab.value("document.hidden")
    out["cpu"]["other tab"] = await share(seconds)
    return out | {"errors": tab.errors}


async def main(seconds: float) -> None:
    """Run the dashboard and the browser."""
    board = Board()
    fill_board(board, now_ms(), 450)
    async with dashboard(board) as url, page() as tab:
        publishing = asyncio.create_task(published(board))
        print(json.dumps(await measured(tab, url, seconds), indent=1))
        publishing.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    asyncio.run(main(parser.parse_args().seconds))
