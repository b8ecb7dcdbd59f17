"""How fast `items` is read from a broker, from nothing: by a serving worker, and by the role ``index``.

    python bench/bench_topic.py [--items N] [--broker kafka|embedded|auto]    # prints one JSON object

A catalogue of ``items`` is in the topic. Then, one after the other:

- ``serve_items_per_s``: items by the time from the start of a worker with the role ``serve``, which finds no
  snapshot, until a list has the last item of every partition: a worker that reads for longer than half a
  minute answers before it has read all. It has a core of its own when there are two.
- ``index_items_per_s``: items by the time from the start of a worker with the role ``index``, which finds no
  snapshot either, to its first one. Its child process may use all cores.
- ``*_items_per_cpu_s``: items by CPU time of the worker and its children, start and build included. Other
  work on the machine changes it less.
- ``serve_mb``: memory of the serving worker then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from bench_serve import until
from bench_serving import ROOT, catalogue, record
from ingest.events import fill
from ingest.measure import Process, Servers, core_apart, cpu_s, servers

from headrace.demo.stack import environment
from headrace.serving.requests.client import RecClient
from headrace.serving.snapshot.folder import folder_of
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import AnyNone, Filters, Item, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import partition_of

#: The creator of the last item of every partition.
CREATOR = "creator-of-the-last"
COMMAND = [sys.executable, "-m", "headrace", "worker"]


async def bench(
    items: int, own_core: frozenset[int], cores: frozenset[int], ours: Servers, folder: Path
) -> dict[str, Any]:
    """Write the catalogue; start the workers: ``serve`` on its own core, ``index`` on all of them."""
    settings = Settings(
        brokers=ours.brokers, redis_url=ours.redis_url, topic_prefix="bench-topic-", data_dir=folder / "data",
        partitions=2,
    )  # fmt: skip
    await create_topics(settings)
    last = {
        partition_of(name.encode(), settings.partitions): name for name in (f"last-{n}" for n in range(100))
    }
    ends = [
        record(name, Item(name, now_ms(), title=f"The last of {partition}", creator_id=CREATOR))
        for partition, name in last.items()
    ]
    await fill(settings, Topics(settings).items, [*catalogue(items, now_ms()), *ends], settings.partitions)
    env = environment(settings)
    out: dict[str, Any] = {"broker": ours.kind, "items": items, "own_core": sorted(own_core)}
    with Process([*COMMAND, "serve"], env, folder / "serve.log", ROOT, own_core) as serve:
        out |= _rates("serve", items, *await read_all(settings, serve, set(last.values())))
        pages = int(Path(f"/proc/{serve.pid}/statm").read_text().split()[1])
        out["serve_mb"] = round(pages * os.sysconf("SC_PAGESIZE") / 2**20)
    began = time.monotonic()
    with Process([*COMMAND, "index"], env, folder / "index.log", ROOT, cores) as index:
        await until((folder_of(settings) / "CURRENT").exists, index, "snapshot", 900)
        out |= _rates("index", items, time.monotonic() - began, cpu_s(index.pid))
    return out


async def read_all(settings: Settings, serve: Process, last: set[str]) -> tuple[float, float]:
    """Wait until a list has the last items; return the time and CPU time of the worker until then, s."""
    began, wanted = time.monotonic(), Filters(creator=AnyNone(any=[CREATOR]))
    async with RecClient(settings, "last", timeout_s=5) as client:
        for name in map("nobody-{}".format, count()):
            if serve.ended() or time.monotonic() - began > 900:
                break
            try:
                reply = await client.recommend(
                    RecRequest(name, name, "home", filters=wanted, deadline_ms=5000)
                )
            except (HeadraceError, TimeoutError):
                continue
            if last <= {item.item_id for item in reply.items}:
                return time.monotonic() - began, cpu_s(serve.pid)
            await asyncio.sleep(0.1)
    raise SystemExit(f"the worker has not read all\n{serve.last_words()}")


def _rates(role: str, items: int, spent_s: float, spent_cpu_s: float) -> dict[str, Any]:
    return {
        f"{role}_s": round(spent_s, 1),
        f"{role}_items_per_s": round(items / spent_s),
        f"{role}_items_per_cpu_s": round(items / spent_cpu_s),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    args = parser.parse_args()
    cores = frozenset(os.sched_getaffinity(0))
    own_core = core_apart()
    with tempfile.TemporaryDirectory() as folder, servers(args.broker) as ours:
        figures = asyncio.run(bench(args.items, own_core, cores, ours, Path(folder)))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
