"""The ingest benchmark at tiny sizes: its result has all keys, and plausible figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from bench_ingest import idle_cpu_s, rates
from ingest import events as ev
from ingest.measure import Process
from ingest.profile import top
from ingest.systems import LONGEST_IDLE_S, POLL_S, Run, cpu_per_s, settled, start_cpu_s

from headrace.streams.messages.schemas import Event, Item, check_event
from headrace.streams.settings import Settings

NOW = 1_790_000_000_000
MIX = ev.Mix(users=2000, active=500, items=300)


def test_the_mix_is_seeded_valid_and_has_retries() -> None:
    records = ev.mixed(5000, MIX, NOW)
    assert records == ev.mixed(5000, MIX, NOW)
    settings = Settings()
    for key, value, at in records:
        event = msgspec.json.decode(value, type=Event)
        check_event(event, at, settings.lateness_ms, settings.future_ms)
        assert key.decode() == event.user_id
        assert 150 <= len(value) <= 260
    assert [at for *_, at in records] == sorted(at for *_, at in records)
    told = ev.describe(records)
    assert 20 <= told["retries"] <= 90
    assert told["shares"]["click"] == pytest.approx(0.45, abs=0.03)
    assert set(told["shares"]) == set(ev.SHARES)


def test_every_item_of_the_mix_is_in_the_catalogue() -> None:
    items = {key for key, _, _ in ev.catalogue(MIX, NOW)}
    seen = {
        msgspec.json.decode(value, type=Event).item_id.encode() for _, value, _ in ev.mixed(500, MIX, NOW)
    }
    assert seen <= items
    first = msgspec.json.decode(ev.catalogue(MIX, NOW)[0][1], type=Item)
    assert first.category
    assert first.creator_id


def test_newcomers_are_met_for_the_first_time_at_the_end() -> None:
    def event(user: str, item: str, kind: str = "click") -> tuple[bytes, bytes, int]:
        return user.encode(), json.dumps({"item_id": item, "type": kind}).encode(), 0

    events = [
        event("a", "x"),
        event("b", "y"),
        event("a", "z", "hide"),
        event("c", "w", "follow"),
        event("b", "z"),
    ]
    assert ev.newcomers(events, share=0.4) == ({b"c"}, {b"z"})
    assert ev.newcomers(events, share=0.2) == (set(), {b"z"})


def test_a_program_has_started_when_it_begins_to_idle() -> None:
    per_s = round(1 / POLL_S)
    starting = [n / per_s for n in range(2 * per_s)]
    idling = [2 + 0.05 * n / per_s for n in range(5 * per_s)]
    assert start_cpu_s(starting + idling) == pytest.approx(2.0, abs=0.05)
    assert start_cpu_s([0.5, 0.5]) == 0.5


def test_an_idle_run_ends_when_the_program_idles() -> None:
    starting = [(n / 10, n / 20) for n in range(120)]
    assert not settled(starting)
    assert cpu_per_s(starting) == pytest.approx(0.5)
    idling = [*starting, *((12 + n / 10, 6 + 0.002 * n) for n in range(60))]
    assert not settled(idling[:-30])
    assert settled(idling)
    assert cpu_per_s(idling) == pytest.approx(0.02)
    assert settled([(0.0, 0.0), (LONGEST_IDLE_S, 30.0)]), "a program that polls without a pause never idles"
    assert cpu_per_s([(0.1, 0.2)]) == 0


def test_a_program_that_idles_as_long_as_the_run_is_subtracted() -> None:
    idle = [Run(cpu_s=3.0 + extra, wall_s=8.0, cpu_per_s=0.05) for extra in (0.0, 0.1, 9.0)]
    assert idle_cpu_s(idle, 20.0) == pytest.approx(3.7)
    rate, details = rates([Run(cpu_s=13.7, wall_s=20.0), Run(cpu_s=13.2, wall_s=10.0)], idle, 1_000_000)
    assert details["events_per_cpu_s"] == [100_000, 100_000]
    assert rate == 100_000
    assert rates([], idle, 1) == (None, {})


def test_cpu_time_is_that_of_a_process_and_its_children(tmp_path: Path) -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    twice = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}], check=True)\n{burn}"
    with Process([sys.executable, "-c", twice], {}, tmp_path / "log") as process:
        seen = 0.0
        while not process.ended():
            seen = max(seen, process.cpu_s())
        assert process.returncode == 0
    assert 0.6 <= process.cpu_s() < 3
    assert 0.3 < seen <= process.cpu_s() + 0.1


def test_a_profile_is_summed_up_by_function() -> None:
    told = top(
        "main (a.py:1);work (b.py:7) 30\nmain (a.py:2);work (b.py:9) 10\nmain (a.py:3) 60\n"
        "loop (b.py:1);_worker (concurrent/futures/thread.py:81) 900\n"
    )
    assert "100 samples at work (900 " in told
    assert " 40.00%  40.00%  work (b.py)" in told
    assert " 60.00% 100.00%  main (a.py)" in told
