"""CPU cost of an event for Headrace and its Python peers: one broker, the same events, in turns. Prints JSON.

    python bench/bench_ingest.py [--events N] [--runs N] [--only NAMES] [--broker auto|kafka|embedded]
                                 [--clicks GLOBO_PATH] [--profile FOLDER] [--warm-up S] [--touch-gb N]

``user_stage``, ``pipeline``, ``stock_faust``, ``quixstreams``, ``bytewax`` are events per CPU-second. The
events are in the topic before a program starts, so that no producer limits it. The cost of a program is all
CPU time (user and system) of its own processes, from its start until the offsets of all events are committed
(for the pipeline: also those of the item-events). In ``pipeline_viral`` half of the events are on one item,
whose count must be exact; in ``pipeline_misplaced`` a tenth of the records are in the wrong partition. The
CPU time of broker and Redis is shown separately. In every round, an idle run of each program (with the
catalogue, without events) is measured, too, until it has started and idles. What it used to start, and to
idle for as long as the run with events, is subtracted: the median of all rounds. ``details`` has both, every
run, and the proof that all events were counted. The peers are in bench/peers/. The figure of a peer that is
not installed is null, with the reason in ``details``.

``recovery_rows_per_s``: see bench/ingest/recovery.py. ``user_row_bytes``, ``item_row_bytes``: bytes of a
whole row; ``..._with_index``: bytes that a filled table has allocated per row.
``freshness_p50_ms``, ``freshness_p99_ms``: time from the send of an event to its count in Redis, medians of
the rounds, at half of the pipeline's events per second in the same round; see bench/ingest/freshness.py.
``format_us``: CPU time of reading an event in each format, us; see bench/ingest/formats.py.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from ingest import events as ev
from ingest.freshness import freshness
from ingest.measure import Positions, Servers, servers
from ingest.profile import profile
from ingest.recovery import recovery
from ingest.systems import OURS, THEIRS, Bench, FailedError, Run, peer_versions, scratch

from headrace.streams.clock import now_ms
from headrace.streams.process import run as run_async

ROOT = Path(__file__).parents[1]

SYSTEMS = (*OURS, *THEIRS)
PARTS = (*SYSTEMS, "recovery", "memory", "freshness", "formats")
#: Keys of the result; null for figures that were not measured.
KEYS = (
    *SYSTEMS, "recovery_rows_per_s", "user_row_bytes", "item_row_bytes",
    "freshness_p50_ms", "freshness_p99_ms", "format_us",
)  # fmt: skip
_MEMORY = "import sys, json; from ingest.memory import row_bytes; "
_MEMORY += "print(json.dumps(row_bytes(int(sys.argv[1]), int(sys.argv[2]))))"


def note(text: str) -> None:
    """Print a message on stderr: stdout is for the JSON."""
    print(text, file=sys.stderr, flush=True)


def rates(runs: list[Run], idle: list[Run], events: int) -> tuple[int | None, dict[str, Any]]:
    """Return events per CPU-second (the median of the runs), and everything behind it."""
    if not runs or not idle:
        return None, {}
    each = [round(events / max(r.cpu_s - idle_cpu_s(idle, r.wall_s), 1e-3)) for r in runs]
    return round(statistics.median(each)), {
        "events_per_cpu_s": each,
        "events_per_cpu_s_with_start": [round(events / r.cpu_s) for r in runs],
        "cpu_s": [r.cpu_s for r in runs],
        "idle_cpu_s": [r.cpu_s for r in idle],
        "idle_wall_s": [r.wall_s for r in idle],
        "idle_cpu_per_s": [r.cpu_per_s for r in idle],
        "wall_events_per_s": [r.wall_events_per_s for r in runs],
        "wall_s": [r.wall_s for r in runs],
        "peak_mb": [r.peak_mb for r in runs],
        "broker_cpu_s": [r.broker_cpu_s for r in runs],
        "redis_cpu_s": [r.redis_cpu_s for r in runs],
        "proof": runs[-1].proof,
    }


def idle_cpu_s(idle: list[Run], wall_s: float) -> float:
    """Return the CPU time of an idle run of this length, the median of the idle runs, s."""
    return statistics.median(r.cpu_s + r.cpu_per_s * (wall_s - r.wall_s) for r in idle)


def formats(runs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the cost of an event in each format, and what is behind it."""
    from ingest.formats import costs

    medians, details = costs(runs)
    for name, us in medians.items():
        note(f"{name}: {us} us")
    return medians, details


class Report:
    """The figures, what is behind them, and what could not be measured."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = dict.fromkeys(KEYS)
        self.details: dict[str, Any] = {}
        self.missing: dict[str, str] = {}

    def failed(self, name: str, why: object) -> None:
        """Note that something could not be measured."""
        self.missing[name] = str(why)
        note(f"not measured: {why}")


async def systems(report: Report, bench: Bench, names: list[str], runs: int, fresh: Freshness | None) -> None:
    """Run all systems in turns; ``fresh`` runs right after the pipeline, at half of its rate."""
    loaded: dict[str, list[Run]] = {name: [] for name in names}
    idle: dict[str, list[Run]] = {name: [] for name in names}
    for turn in range(runs):
        for name in names:
            if name in report.missing:
                continue
            try:
                idle[name].append(await bench.run(name, idle=True))
                loaded[name].append(await bench.run(name))
            except FailedError as exc:
                report.failed(name, exc)
                continue
            rate, _ = rates(loaded[name][-1:], idle[name], len(bench.events))
            note(f"run {turn + 1}: {name}: {rate} events per CPU-second")
            if name == "pipeline" and fresh is not None:
                await fresh.measure(report, bench, loaded[name][-1].wall_events_per_s / 2)
    for name in names:
        report.figures[name], report.details[name] = rates(loaded[name], idle[name], len(bench.events))


class Freshness:
    """Freshness, once a round, at ``--rate`` or at half of the pipeline's throughput in the same round."""

    def __init__(self, rate: int | None, seconds: float, warm_up_s: float) -> None:
        self._rate, self._seconds, self._warm_up_s = rate, seconds, warm_up_s
        self._seen: list[dict[str, Any]] = []

    async def measure(self, report: Report, bench: Bench, half: float) -> None:
        """Measure once."""
        try:
            seen = await freshness(bench, self._rate or round(half), self._seconds, self._warm_up_s)
        except FailedError as exc:
            report.failed("freshness", exc)
            return
        self._seen.append(seen)
        note(f"freshness: {seen['p50_ms']} / {seen['p99_ms']} ms at {seen['load_events_per_s']} events/s")

    def tell(self, report: Report) -> None:
        """Add the medians of all rounds to the report."""
        if not self._seen:
            if "freshness" not in report.missing:
                report.failed("freshness", "half of what? needs pipeline in the same run, or --rate")
            return
        for name in ("p50_ms", "p99_ms"):
            report.figures[f"freshness_{name}"] = statistics.median(seen[name] for seen in self._seen)
        report.details["freshness"] = {
            **{name: [seen[name] for seen in self._seen] for name in self._seen[0]},
            "method": "perf_counter before send of a marker user's click -> an MGET of its row counts it; "
            "a delay may be too long by up to polling_error_ms, never too short",
            "shared": "load, prober, workers (a process a role), broker and Redis on the same cores",
        }


def memory(report: Report, users: int, items: int) -> None:
    """Measure bytes a row, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(users), str(items)],
        cwd=ROOT / "bench",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        report.failed("memory", done.stderr[-500:])
        return
    seen = json.loads(done.stdout)
    for kind in ("user", "item"):
        report.figures[f"{kind}_row_bytes"] = seen[kind]["row"]
        report.details[f"{kind}_row_bytes_with_index"] = seen[kind]["with_index"]
    report.details["memory"] = seen


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "cpu": models[0].split(":", 1)[1].strip() if models else "?",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


async def measure(args: argparse.Namespace, where: Servers, folder: Path) -> dict[str, Any]:
    """Measure the selected figures; return the JSON object."""
    now = now_ms()
    if args.clicks:
        events, items = ev.recorded(args.clicks, args.events, now)
    else:
        events, items = ev.mixed(args.events, ev.Mix(), now), ev.catalogue(ev.Mix(), now)
    report, here = Report(), machine()
    if "memory" in args.only:
        memory(report, args.rows, max(1, args.rows // 5))
    if "formats" in args.only:
        report.figures["format_us"], report.details["formats"] = formats(args.runs)
    versions, missing = peer_versions()
    for name, why in missing.items():
        if name in args.only:
            report.failed(name, why)
    async with Positions(where.brokers) as positions:
        bench = Bench(where, events, items, positions, folder, args.idle, int(args.touch_gb * 1024**3))
        names = [name for name in SYSTEMS if name in args.only and name not in report.missing]
        fresh = Freshness(args.rate, args.seconds, args.warm_up) if "freshness" in args.only else None
        await systems(report, bench, names, args.runs, fresh)
        if "recovery" in args.only:
            try:
                seen = await recovery(bench, args.rows, args.runs)
                report.figures["recovery_rows_per_s"] = round(statistics.median(seen["rows_per_s"]))
                report.details["recovery"] = seen
            except FailedError as exc:
                report.failed("recovery", exc)
        if fresh is not None:
            for _ in range(args.runs if args.rate and "pipeline" not in names else 0):
                await fresh.measure(report, bench, args.rate)
            fresh.tell(report)
        if args.profile:
            for name in (n for n in OURS if n in args.only):
                try:
                    note("wrote " + ", ".join(await profile(bench, name, args.profile)))
                except FailedError as exc:
                    report.failed(f"profile of {name}", exc)
    ours = report.figures["user_stage"]
    peers = [report.figures[name] for name in THEIRS if report.figures[name]]
    return {
        **report.figures,
        "details": {
            "user_stage_over_fastest_peer": round(ours / max(peers), 2) if ours and peers else None,
            "runs": args.runs,
            "broker": where.kind,
            "machine": here,
            "events": bench.described,
            "peer_versions": versions,
            "not_measured": report.missing,
            **report.details,
        },
    }


def tell(result: dict[str, Any], path: Path | None) -> int:
    """Print the result, and write it to a file."""
    print(json.dumps(result))
    if path:
        path.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="what to measure, of " + ",".join(PARTS))
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    parser.add_argument("--clicks", type=Path, help="Globo click file or folder, instead of the mix")
    parser.add_argument("--rows", type=int, default=1_000_000, help="user rows of recovery and memory")
    parser.add_argument(
        "--rate", type=int, help="freshness: events per second instead of half the pipeline's"
    )
    parser.add_argument("--seconds", type=float, default=20, help="freshness: how long is probed")
    parser.add_argument(
        "--warm-up", type=float, default=8, help="freshness: seconds of load before the first probe"
    )
    parser.add_argument(
        "--touch-gb", type=float, default=3, help="memory used and given back before a program starts"
    )
    parser.add_argument(
        "--profile", type=Path, help="folder for py-spy's flame graphs (more runs, not counted)"
    )
    parser.add_argument("--idle", type=float, default=8, help="seconds of an idle run, at least")
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(PARTS):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # logs every retry at a new topic
    if args.only == ["formats"]:  # needs no server
        here = machine()
        medians, details = formats(args.runs)
        return tell({"format_us": medians, "details": {"machine": here, **details}}, args.json)
    with scratch() as folder, servers(args.broker) as where:
        result = run_async(measure(args, where, Path(folder)))
    tell(result, args.json)
    return 1 if set(result["details"]["not_measured"]) - set(THEIRS) else 0


if __name__ == "__main__":
    sys.exit(main())
