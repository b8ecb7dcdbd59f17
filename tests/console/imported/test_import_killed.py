"""`headrace import events` is killed again and again: in the end every event is in the topic exactly once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from installation import read_all, until, worker
from past_events import as_files, lasting_topics, past_events

from headrace.console.verification.run import verify
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker
EVENTS = 6000

#: The real command, with small pieces. It dies at a write: while it is under way, or when it is acknowledged.
COMMAND = """
import asyncio, os, signal, sys
from headrace.console.imported import batches, sending, sorting
from headrace.console.main import main
from headrace.streams.topics.sender import BatchSender

left, late = int(sys.argv.pop(1)), sys.argv.pop(1) == "late"
sending.TOGETHER, sending.TOUCH_S, sending.SETTLED_S = 500, 0.0, 1.0
sorting.RUN_ROWS, sorting.BUCKET_ROWS, sorting._STEP = 1700, 900, 7
batches.BATCH_BYTES = 4096
plain = BatchSender.send_batches

async def send_batches(self, topic, made, *, partition):
    global left
    left -= 1
    writing = asyncio.ensure_future(plain(self, topic, made, partition=partition))
    if left == 0:
        for _ in range(30):
            await (writing if late else asyncio.sleep(0))
        os.kill(os.getpid(), signal.SIGKILL)
    return await writing

BatchSender.send_batches = send_batches
main()
"""


async def run_import(settings: Settings, folder: Path, kill_at: int, moment: str) -> tuple[int, str]:
    """Run the command as a process of its own; return its exit code and output."""
    environment = {
        **os.environ,
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADRACE_PARTITIONS": str(settings.partitions),
        "HEADRACE_DATA_DIR": str(settings.data_dir),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, str(kill_at), moment, "import", "events", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return int(process.returncode or 0), out.decode()


@pytest.mark.parametrize("forgets", [False, True])
async def test_every_event_is_there_once(
    make_settings: Callable[..., Settings], tmp_path: Path, forgets: bool
) -> None:
    # Nothing else would forgive an event that was written twice: retries are not recognised.
    settings = make_settings(partitions=3, data_dir=tmp_path / "data", dedup_window_ms=0)
    await lasting_topics(settings)
    table = past_events(EVENTS, now_ms())
    as_files(table, tmp_path / "past")
    for kill_at, moment in ((1, "late"), (2, "early"), (4, "late"), (5, "early"), (9, "late")):
        code, _ = await run_import(settings, tmp_path / "past", kill_at, moment)
        assert code == -signal.SIGKILL
        if forgets:  # another machine goes on: without the sorted events, and what is known is old
            for path in (tmp_path / "data" / "import-work").rglob("*.arrow"):
                path.unlink()
            for path in (tmp_path / "data" / "import-work").rglob("sorted"):
                path.unlink()
            for path in (tmp_path / "data").rglob("imports/*.json"):
                job = msgspec.json.decode(path.read_bytes())
                path.write_bytes(msgspec.json.encode(job | {"places": {}}))
    code, out = await run_import(settings, tmp_path / "past", 0, "never")
    sent = re.search(r"([\d,]+) of 6,000 events sent", out)
    assert code == 0
    assert sent is not None, out
    assert 0 < int(sent[1].replace(",", "")) < EVENTS, "some was written before it was killed"
    records = await read_all(settings, Topics(settings).events)
    assert Counter(msgspec.json.decode(r.value)["event_id"] for r in records) == dict.fromkeys(
        table.column("event_id").to_pylist(), 1
    )
    for partition in range(3):
        times = [r.timestamp for r in records if r.partition == partition]
        assert times == sorted(times), "in the order of their time"
    code, out = await run_import(settings, tmp_path / "past", 0, "never")
    assert (code, "0 of 0 events sent" in out) == (0, True), out
    async with worker(settings, ["ingest", "aggregate"]):
        await until(lambda: lag(settings), lambda rows: rows and not any(r.records for r in rows), 60)
        result = await until(lambda: verify(settings), lambda result: result.exit_code == 0, 60)
    assert (result.events, result.differences) == (EVENTS, 0)
