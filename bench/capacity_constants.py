"""Write the constants of ``headrace capacity`` from the output of benchmarks: ``make capacity-constants``.

    python bench/capacity_constants.py [--only sizes,join] [--from NAME=FILE ...]

Runs the benchmarks of ``BENCHES`` and takes from their JSON what ``PICKS`` names; both are all there is to
know of a constant, so nobody types one in. Every run is noted with command, commit, day and machine.
``--only``: the others keep the figures that are in the file. ``--from``: the output of a benchmark that was
run by hand with the same command, on this machine and this commit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
FILE = ROOT / "console" / "sizing" / "constants.json"
#: Run -> the command.
BENCHES = {"sizes": "make bench-sizes", "join": "make bench-join"}
SCRIPTS = {"sizes": "bench_sizes.py", "join": "bench_join.py"}
ROLES = ("ingest", "aggregate", "learn", "log", "serve", "index", "trainer", "canary", "monitor")


class Pick(NamedTuple):
    """Where a constant is: its run, its place in the output, its factor, its unit, what it is."""

    run: str
    at: str
    times: float
    unit: str
    meaning: str


def _cpu(at: str, what: str) -> Pick:
    return Pick("sizes", f"cpu_us.{at}", 1, "us", f"CPU time of {what}")


def _size(at: str, what: str, times: float = 1, run: str = "sizes") -> Pick:
    return Pick(run, at, times, "bytes", what)


def _curve(at: str, unit: str, what: str) -> Pick:
    return Pick("sizes", f"curves.{at}", 1, f"bytes, by {unit}", what)


PICKS: dict[str, Pick] = {
    "ingest_us_per_event": _cpu("ingest_event", "ingest for an event"),
    "ingest_us_per_list": _cpu("ingest_list", "ingest for a list that was shown"),
    "aggregate_us_per_event": _cpu("aggregate_event", "aggregate for an event"),
    "aggregate_us_per_slot": _cpu("aggregate_slot", "aggregate for a shown slot"),
    "learn_us_per_event": _cpu("learn_event", "learn for an event"),
    "learn_us_per_list": _cpu("learn_list", "learn for a list and its examples"),
    "log_us_per_example": _cpu("log_example", "log for an example"),
    "serve_us_per_list": _cpu("serve_list", "serve for a list of 20 slots"),
    "serve_us_per_item_row": _cpu("serve_item_row", "serve for a changed item row, in every process"),
    "neighbour_rows_per_event": Pick(
        "sizes", "pairs_per_event", 2, "rows", "neighbour rows that an event changes, two for each pair"
    ),
    "user_row_memory_bytes": _size("memory.user_row", "a user row in memory, with its index"),
    "shown_row_memory_bytes": _size("memory.shown_row", "a row of what a user was shown, in memory"),
    "item_row_memory_bytes": _size(
        "memory.item_row", "a row of an item, or of an item in a country, in memory"
    ),
    "neighbour_row_memory_bytes": _size("memory.neighbour_row", "a neighbour row in memory"),
    "idle_item_memory_bytes": _size("memory.idle_item_row", "what serving keeps of an item without events"),
    "evicted_row_memory_bytes": _size("memory.evicted_row", "what stays in memory of an evicted row"),
    "dedup_id_bytes": _size("memory.dedup_id", "an id of the window of retries"),
    "item_attribute_bytes": _size("memory.item_attribute", "category and creator of an item"),
    "join_event_bytes": _size("memory.join_event", "an event that lists may wait for"),
    "open_list_bytes": _size("bytes_per_open_list", "an open list of 20 slots", run="join"),
    "snapshot_item_bytes": _size("snapshot_item_bytes", "an item in the files of the catalogue"),
    "parquet_example_bytes": _size("parquet_example_bytes", "an example in the training log"),
    "user_state_bytes": _curve("user.kafka", "events of the user", "a user row in its changelog"),
    "shown_state_bytes": _curve("shown.kafka", "lists of the user", "a shown row in its changelog"),
    "item_features_bytes": _curve("item.kafka", "events of the item", "an item row in its changelog"),
    "neighbour_bytes": _curve("neighbour.kafka", "events of the item", "a neighbour row in its changelog"),
    "redis_user_bytes": _curve("user.redis", "events of the user", "a user row in Redis, with its key"),
    "redis_shown_bytes": _curve("shown.redis", "lists of the user", "a shown row in Redis, with its key"),
    "redis_item_bytes": _curve("item.redis", "events of the item", "an item row in Redis, with its key"),
    "redis_neighbour_bytes": _curve("neighbour.redis", "events of the item", "a neighbour row in Redis"),
    "packed_user_bytes": _curve("user.packed", "events of the user", "a user row, packed"),
    "packed_shown_bytes": _curve("shown.packed", "lists of the user", "a shown row, packed"),
}
for _name, _what in (
    ("event", "an event"), ("item", "an item"), ("profile", "a profile"), ("request", "a request"),
    ("reply", "a reply of 20 items"), ("impression", "an impression of 20 slots"), ("trace", "a trace"),
    ("example", "an example"), ("item_event", "what `item-events` has of an event"),
    ("item_shown", "what `item-events` has of a shown slot"),
):  # fmt: skip
    PICKS[f"{_name}_bytes"] = _size(f"records.{_name}", f"{_what}, in the files of Kafka")
for _role in ROLES:
    PICKS[f"base_bytes_{_role}"] = _size(f"base_mb.{_role}", f"an idle process of {_role}", 1e6)
    PICKS[f"idle_cores_{_role}"] = Pick("sizes", f"idle_cores.{_role}", 1, "cores", f"of an idle {_role}")


def value(output: Mapping[str, Any], pick: Pick) -> float | list[list[float]]:
    """Return a constant from the output of its benchmark. Pure."""
    names = pick.at.split(".")
    if names[0] == "curves":
        return [[point["x"], point[names[2]]] for point in output["curves"][names[1]]]
    found: Any = output
    for name in names:
        found = found[name]
    return float(f"{found * pick.times:.6g}")


def condensed(
    outputs: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Mapping[str, str]], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the new file: constants of the benchmarks that ran, and of the others as they were. Pure."""
    kept = {run: told for run, told in known.get("runs", {}).items() if run in BENCHES}
    constants = {}
    for name, pick in sorted(PICKS.items()):
        if pick.run in outputs:
            told = {"unit": pick.unit, "meaning": pick.meaning, "run": pick.run, "at": pick.at}
            constants[name] = {"value": value(outputs[pick.run], pick), **told}
        elif name in known.get("constants", {}):
            constants[name] = known["constants"][name]
    return {"runs": dict(sorted((kept | dict(runs)).items())), "constants": constants}


def provenance(command: str) -> dict[str, str]:
    """Return command, commit, day and machine of a run of a benchmark that is about to begin."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")
    load = f"load average {os.getloadavg()[0]:.1f}"
    machine = f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}, {load}"
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return {"command": command, "commit": commit, "date": day, "machine": machine}


def main() -> None:
    """Run the benchmarks; write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(BENCHES), help="which benchmarks")
    parser.add_argument("--from", dest="given", action="append", default=[], metavar="NAME=FILE")
    args = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in args.given)
    wanted = [name for name in args.only.split(",") if name]
    if unknown := {*wanted, *given} - set(BENCHES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    outputs, runs = {}, {}
    for name in wanted:
        runs[name] = provenance(BENCHES[name])
        if name in given:
            outputs[name] = json.loads(Path(given[name]).read_text("utf-8"))
            continue
        print(f"{runs[name]['command']} ...", file=sys.stderr, flush=True)
        script = str(Path(__file__).with_name(SCRIPTS[name]))
        done = subprocess.run([sys.executable, script], check=True, stdout=subprocess.PIPE, text=True)
        outputs[name] = json.loads(done.stdout)
    known = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    FILE.write_text(json.dumps(condensed(outputs, runs, known), indent=1) + "\n", "utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
