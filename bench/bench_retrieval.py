"""The catalogue in files and its vector index: recall, query time, memory, start and rebuild.

    python bench/bench_retrieval.py [--items N] [--clicks FILE] [--ten-million]    # prints one JSON object

A process writes a snapshot of ``items`` made-up items; ``rebuild_s`` is the time of that without making the
items up. Then its files are dropped from the page cache. Another process opens it, then one more.

- ``start_s``: from the start of the first to its first answer; ``start_again_s``: of the second.
- ``query_*_ms``: 300 candidates of the whole catalogue, one thread. ``query_cpu_*_ms``: the CPU time of that,
  which other work on the machine changes less.
- ``process_mb``: memory of a process that is not the files', Python included. ``machine_mb``: that of one
  process and all files.

A serving process then starts on the snapshot (``bench/retrieval/serving.py``):

- ``serve_start_s``: until its first list, with items from the vector index; ``serve_mb``: its memory.
- ``swap_*_ms``: longest step of a change to another snapshot that the event loop waits for, after 20,000
  items changed: noting them, the change itself, dropping them from memory (200 at a time). ``swap_*_cpu_ms``:
  the CPU time of that.
- ``topic_items_a_cpu_s``: items a process without a snapshot reads in a second of CPU time: decoded,
  embedded, kept.

With ten million items or more, the figures are under ``ten_million``; ``--ten-million`` measures those, too.

``bench_serving.py`` with as many items, on a broker: ``stage_p99_ms``, ``stall_max_ms``, ``publish_p99_ms``,
and all of it under ``serving``. ``bench_topic.py`` with as many, under ``topic``: items a second that are
read from a broker, ``serve_items_per_s`` and ``index_items_per_s``. With a Globo file of clicks,
``bench_candidates.py``: ``globo_candidate_recall``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from retrieval.catalogs import BLOCK, Nearest, blocks, columns, keys, queries, recall
from retrieval.serving import from_topic, serve

from headrace.models.embeddings.many import ContentVectors
from headrace.serving.index.lists import most_rows
from headrace.serving.snapshot.folder import SnapshotFolder
from headrace.serving.snapshot.writer import Writer
from headrace.streams.transport.places import Place

K = 300
MB = 1024 * 1024


def build(path: Path, n: int, count: int) -> dict[str, Any]:
    """Write the snapshot, the queries and their true answers."""
    asked, nearest, spent = None, None, 0.0
    with (
        SnapshotFolder(path / "catalogue").writing() as folder,
        Writer(folder, os.cpu_count() or 1) as writer,
    ):
        for first, vectors in zip(range(0, n, BLOCK), blocks(n), strict=True):
            if asked is None or nearest is None:
                asked = queries(vectors, count)
                nearest = Nearest(asked, K)
            nearest.add(vectors, first)
            items = columns(vectors, first)
            before = time.perf_counter()
            writer.add(items)
            spent += time.perf_counter() - before
        before, cpu = time.perf_counter(), time.process_time()
        names = {i: f"name {i}" for i in range(1, 20_000)}
        writer.finish(names, {0: Place(n)}, ContentVectors().version, 0)
        spent, cpu = spent + time.perf_counter() - before, time.process_time() - cpu
    assert asked is not None
    assert nearest is not None
    np.savez(path / "asked.npz", asked=asked, truth=nearest.items)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    return {"rebuild_s": round(spent, 1), "rebuild_cpu_s": round(cpu, 1), "rebuild_peak_mb": round(peak)}


def drop_from_cache(folder: Path) -> None:
    """Drop the files from the page cache, so that a start reads the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def answer(path: Path, n: int) -> dict[str, Any]:
    """Open the snapshot and ask."""
    begun = float(os.environ["BEGUN"])
    snapshot = SnapshotFolder(path / "catalogue").open()
    assert snapshot is not None
    with np.load(path / "asked.npz") as file:
        asked, truth = file["asked"], file["truth"]
    snapshot.index.search(asked[0], K)
    start_s = time.time() - begun
    found, wall, cpu = [], list[float](), list[float]()
    for query in [*asked, *asked]:  # the first round reads the files
        clock, own = time.perf_counter(), time.thread_time()
        rows, _ = snapshot.index.search(query, K)
        wall.append(1000 * (time.perf_counter() - clock))
        cpu.append(1000 * (time.thread_time() - own))
        found.append(snapshot.column["key"][rows])
    wall, cpu, found = wall[len(asked) :], cpu[len(asked) :], found[len(asked) :]
    every = np.concatenate([keys(first, min(BLOCK, n - first)) for first in range(0, n, BLOCK)])
    right = recall(found, every[truth])
    some = every[np.random.default_rng(1).integers(0, n, (len(asked), 500))]
    del every
    finding = []
    for wanted in some:
        own = time.thread_time()
        snapshot.find(wanted)
        finding.append(1e6 * (time.thread_time() - own))
    return {
        "recall_at_300": round(right, 4),
        "query_p50_ms": round(float(np.median(wall)), 2),
        "query_p99_ms": round(float(np.quantile(wall, 0.99)), 2),
        "query_cpu_p50_ms": round(float(np.median(cpu)), 2),
        "query_cpu_p99_ms": round(float(np.quantile(cpu, 0.99)), 2),
        "find_500_keys_us": round(float(np.median(finding))),
        "start_s": round(start_s, 2),
        "process_mb": round(own_memory() / MB),
    }


def own_memory() -> int:
    """Return the bytes in memory that are not a file's."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def measure(path: Path, n: int, count: int) -> dict[str, Any]:
    """Run the processes; return their figures."""
    out = {"items": n, "rows_looked_at": most_rows(n)} | _run(path, n, count, "build")
    folder = SnapshotFolder(path / "catalogue").current()
    assert folder is not None
    disk = sum(file.stat().st_size for file in folder.iterdir()) / MB
    drop_from_cache(folder)
    serving = _run(path, n, count, "serve") | _run(path, n, count, "topic")
    drop_from_cache(folder)
    first, second = _run(path, n, count, "answer"), _run(path, n, count, "answer")
    out |= second | {"start_s": first["start_s"], "start_again_s": second["start_s"]}
    return out | serving | {"disk_mb": round(disk), "machine_mb": round(disk + second["process_mb"])}


def _run(path: Path, n: int, count: int, what: str) -> dict[str, Any]:
    arguments = ["--items", str(n), "--queries", str(count), "--folder", str(path), "--part", what]
    return _printed(__file__, *arguments)


def _printed(program: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark of this folder; return what it prints."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(Path(program).name)), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"BEGUN": str(time.time())},
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def beside(args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a serving worker on a broker, of recorded clicks, of ten million items."""
    serving = _printed("bench_serving.py", "--items", str(args.items))
    out: dict[str, Any] = {name: serving[name] for name in ("stage_p99_ms", "stall_max_ms", "publish_p99_ms")}
    out |= {"serving": serving, "topic": _printed("bench_topic.py", "--items", str(args.items))}
    if args.clicks:
        found = _printed("bench_candidates.py", str(args.clicks), "--clicks", str(args.limit))
        out |= {"globo_candidate_recall": found["candidate_recall"], "globo": found}
    if args.ten_million:
        out |= _printed(__file__, "--items", "10000000", "--queries", str(args.queries))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--clicks", type=Path, help="Globo's click file")
    parser.add_argument("--limit", type=int, default=120_000, help="how many of the clicks")
    parser.add_argument("--ten-million", action="store_true", help="the catalogue of ten million items, too")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=["build", "answer", "serve", "topic"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "build":
        print(json.dumps(build(args.folder, args.items, args.queries)))
    elif args.part == "answer":
        print(json.dumps(answer(args.folder, args.items)))
    elif args.part == "serve":
        folder = SnapshotFolder(args.folder / "catalogue").current()
        assert folder is not None
        print(json.dumps(serve(folder, args.items) | {"serve_mb": round(own_memory() / MB)}))
    elif args.part == "topic":
        print(json.dumps(from_topic(min(100_000, args.items))))
    else:
        with tempfile.TemporaryDirectory(prefix="headrace-retrieval-") as path:
            figures = measure(Path(path), args.items, args.queries)
        large = args.items >= 10_000_000
        print(json.dumps({"ten_million": figures} if large else figures | beside(args)))


if __name__ == "__main__":
    main()
