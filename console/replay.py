"""``headrace replay``: recorded events through the real topics."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require


class ReplayFormat(StrEnum):
    """Files that can be replayed."""

    globo = "globo"
    jsonl = "jsonl"


def replay(
    path: Annotated[Path, typer.Argument(help="A file, or a folder of Globo click files; .gz is fine.")],
    kind: Annotated[
        ReplayFormat, typer.Option("--format", help="Globo's click CSV, or our events as JSON lines.")
    ],
    speed: Annotated[
        float, typer.Option(min=0, help="So many times real time; 0: as fast as the broker takes them.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many events.")] = None,
    keep_times: Annotated[
        bool, typer.Option("--keep-times", help="Do not move the recorded times to the present.")
    ] = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Push recorded events through the real topics.

    Recorded times are moved to the present, because a broker deletes what is older than a topic keeps: at
    full speed the recording ends now, at a speed it begins now. Globo's files have no catalogue: an article
    is published to `items` when it is first clicked.

    Example, an hour a minute: [bold]headrace replay clicks.csv.gz --format globo --speed 60[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.demo import replay as job

    began = time.monotonic()
    with screen.progress(screen.console(stderr=True), "replay", limit) as report:

        def tell(sent: int, ts_ms: int) -> None:
            rate = sent / max(1e-9, time.monotonic() - began)
            report(sent, f"{rate:,.0f} events/s, at {_when(ts_ms)}")

        run = job.replay(
            settings, path, kind.value, speed=speed, limit=limit, keep_times=keep_times, progress=tell
        )
        done = options.run(run)
    options.write_json(json_path, done.as_dict())
    typer.echo(
        f"{done.events:,} events and {done.items:,} items in {done.seconds:.1f} s: "
        f"{done.events_per_s:,.0f} events/s"
    )


def _when(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
