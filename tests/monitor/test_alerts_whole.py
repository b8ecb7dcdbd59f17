"""All alerts are silent while a whole installation is well, and the right ones speak when something breaks.

A real installation runs under a moderate load (``watched_installation.py``). Its metrics are read every
five seconds for some minutes, and laid out again and again until they are an hour: counters go on growing.
promtool evaluates the rules of ops/ over it, with their own durations. Then one thing after the other breaks.
``make test-alerts``, seven minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from alert_hours import EVERY_S, Round, alerts, asked, promtool_is_there, repeated
from transport_worker import worker_process
from watched_installation import PROCESSES, Installation, machine_cpu_s, watched_installation

from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.scraping import Samples

#: How long the healthy installation is watched, how long what was seen is made to last, and how long before
#: that it begins, s.
WATCHED_S, HOUR_S, BEGIN_S = 180.0, 3600.0, 900.0
#: What breaks stays broken for so long, s.
BROKEN_S = 1500.0
#: Alerts about time. Where others take so much of the machine, in cores, they are right to speak, and others
#: may be pending: a worker that does not run does not answer.
TIMED = {
    "HeadraceRepliesSlow", "HeadraceRepliesDegraded", "HeadracePartLeftOut", "HeadraceOverloaded",
    "HeadraceLoopHeld", "HeadraceCpuShort", "HeadraceFreshnessBurnsFast", "HeadraceFreshnessBurns",
    "HeadraceFreshnessBurnsSlowly",
}  # fmt: skip
OTHERS = 0.15
#: The windows of an hour fill for an hour, so features move in a world that is minutes old.
YOUNG = {"HeadraceFeaturesMoved"}
#: A program that computes, for a minute at most.
BUSY = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
HELD, WAITED = "headrace_loop_held_seconds", "headrace_loop_cpu_wait_seconds_total"
#: What a worker has while it works, by one of its roles; of other workers only those named beside.
WORKS = {
    "serve": {
        "reply_seconds_count", "rung_seconds_count", "rungs_total", "replies_total", "stage_seconds_count",
        "part_calls_total", "source_items_total", "filter_items_total", "index_items", "index_tail_items",
        "index_recall_ratio", "model_info", "model_age_seconds", "model_auc_ratio", "skew_checked_total",
        "stale_partitions", "mirror_rows", "mirror_bytes", "bulk_replies_total", "traces_total",
    },
    "ingest": {"table_rows", "table_bytes"},
    "trainer": {
        "trainings_total", "drift_ratio", "drift_most_ratio", "drift_rows", "outcomes_total",
        "skew_checked_total",
    },
    "gateway": {"gateway_requests_total", "gateway_seconds_count", "gateway_open_requests"},
    "canary": {
        "canary_probes_total", "canary_seconds_count", "canary_objective_ratio", "canary_within_ratio",
        "canary_budget_left_ratio",
    },
}  # fmt: skip
READS = {
    "lag_records", "lag_seconds", "records_total", "batch_records_count", "batch_seconds_count",
    "commit_seconds_count",
}  # fmt: skip
READERS = {"serve", "ingest", "trainer"}  # each stands for its process; that of `trainer` has `log`, too
#: Metrics that are there only when something failed, or is being tried on users; or five minutes after the
#: start: an index that was merged.
ABSENT = {
    "headrace_commit_failures_total", "headrace_consumer_restarts_total", "headrace_dead_letters_total",
    "headrace_refused_requests_total", "headrace_redis_errors_total", "headrace_rollout_steps_total",
    "headrace_mlflow_failures_total", "headrace_skew_differs_total", "headrace_index_merge_age_seconds",
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not promtool_is_there(), reason="promtool is not installed (Debian: apt-get install prometheus)"
    ),
]


def lasting(rounds: Sequence[Round], folder: Path, seconds: float, begin_s: float = 0.0) -> dict[str, str]:
    """Return the alerts when what was seen goes on for so long, after the beginning."""
    times = 1 + int((begin_s + seconds) / EVERY_S / len(rounds))
    return alerts(repeated(rounds, times), folder, begin_s)


def moved(rounds: Sequence[Round]) -> dict[str, float]:
    """Return the features that have moved far, and how far at most."""
    out: dict[str, float] = {}
    for samples in (one for each in rounds for one in each.values() if one):
        for (name, labels), value in samples.items():
            if name == "headrace_drift_ratio" and value > 0.5:
                feature = dict(labels)["feature"]
                out[feature] = max(out.get(feature, 0.0), value)
    return out


def loops(rounds: Sequence[Round]) -> dict[str, str]:
    """Return by worker how often its loop was held for over 100 ms, and its wait for a CPU, of all time."""
    seconds = EVERY_S * (len(rounds) - 1)
    out = {}
    for worker, roles in zip(rounds[0], PROCESSES, strict=True):
        first, last = _loop(rounds[0][worker]), _loop(rounds[-1][worker])
        out[roles] = f"{last[0] - first[0]:.0f}, {(last[1] - first[1]) / seconds:.0%}"
    return out


def _loop(samples: Samples | None) -> tuple[float, float]:
    """Return how often a loop was held for over 100 ms so far, and how long it waited for a CPU, s."""
    held = {dict(at).get("le"): n for (name, at), n in (samples or {}).items() if name.startswith(HELD)}
    return held[None] - held["0.1"], sum(n for (name, _), n in (samples or {}).items() if name == WAITED)


def said(found: dict[str, str]) -> set[str]:
    return {name for name, state in found.items() if state == "firing"}


async def test_silent_while_all_is_well_and_then_everything_breaks(tmp_path: Path) -> None:
    async with watched_installation() as it:
        await well(it)
        it.rounds.clear()
        machine, own, began = machine_cpu_s(), it.own_cpu_s(), time.monotonic()
        healthy = await it.watch(WATCHED_S)
        seconds = time.monotonic() - began
        ours = (it.own_cpu_s() - own) / seconds
        others = (machine_cpu_s() - machine) / seconds - ours
        print(f"{len(healthy)} rounds; we took {ours:.2f} cores, others {others:.2f}")
        told = lasting(healthy, tmp_path, HOUR_S, BEGIN_S)
        print(f"loops: {loops(healthy)}")
        print(f"well: {told}; moved: {moved(healthy)}")
        there = {name for one in healthy[-1].values() for name, _ in one or {}} | {"up"}
        assert set().union(*asked().values()) - there <= ABSENT
        check_names(await it.names())
        spoke = told.keys() - YOUNG
        if others > OTHERS and spoke:
            warnings.warn(f"others took {others:.2f} cores; {told}", stacklevel=1)
            spoke = said(told) - YOUNG - TIMED
        assert not spoke

        for trouble, expected in (
            (poisoned_records, {"HeadraceDeadLetters"}),
            (a_held_loop, {"HeadraceLoopHeld"}),
            (others_take_the_machine, {"HeadraceCpuShort"}),
            (trainings_killed, {"HeadraceTrainingFails"}),
            (redis_frozen, {"HeadraceRedisFails", "HeadraceRepliesDegraded", "HeadraceRepliesSlow"}),
            (too_many_requests, {"HeadraceOverloaded"}),
            (ingest_frozen, {"HeadraceWorkerDown", "HeadraceRoleMissing", "HeadraceRowsOld",
                             "HeadraceFreshnessBurnsFast", "HeadraceFreshnessBurns",
                             "HeadraceFreshnessBurnsSlowly"}),
            (serve_frozen, {"HeadraceGatewayFails"}),
            (a_worker_comes_and_goes, {"HeadraceCommitsFail"}),
            (broker_frozen, {"HeadraceCanarySilent"}),
        ):  # fmt: skip
            it.rounds.clear()
            rounds = await trouble(it)
            told = lasting(rounds, tmp_path, BROKEN_S)
            print(f"{trouble.__name__}: {said(told)}")
            assert expected <= said(told), trouble.__name__


def check_names(found: dict[str, set[str]]) -> None:
    """Every worker has the metrics of its roles, and none of those of others: they are not known there."""
    for roles, names in found.items():
        here = {role for role in WORKS if role in roles.split(",")}
        wanted = set().union(*(WORKS[role] for role in here), READS if here & READERS else set())
        wanted |= {"role_info", "loop_held_seconds_count"}
        lacks = {name for name in wanted if f"headrace_{name}" not in names}
        foreign = set().union(*WORKS.values(), READS) - wanted
        extra = {name for name in foreign if f"headrace_{name}" in names}
        assert (lacks, extra) == (set(), set()), roles


async def well(it: Installation) -> None:
    """Wait until everything has begun: a ranker answers, the canary probes, HTTP and bulk have replies."""
    await it.until("headrace_model_info", model="ranker")
    for probe in ("event", "publish"):
        await it.until("headrace_canary_probes_total", 3, probe=probe, outcome="within")
    await it.until("headrace_gateway_requests_total", status="200")
    await it.until("headrace_bulk_replies_total")
    await it.until("headrace_drift_ratio", 0.0, model="")


async def poisoned_records(it: Installation) -> list[Round]:
    await it.look()
    poison = [(b"user-00001", b"{not json", now_ms(), ()) for _ in range(20)]
    await it.sender.send_keyed(it.topics.events, poison)
    await it.until("headrace_dead_letters_total", 20, agent="track_users")
    return it.rounds


async def a_held_loop(it: Installation) -> list[Round]:
    """A worker that does not run for a moment, again and again: a machine that swaps."""
    pid = it.worker("gateway").process.pid
    await it.look()
    for _ in range(10):
        with it.held(pid):
            await asyncio.sleep(0.3)
        await asyncio.sleep(0.2)
    await it.look()
    return it.rounds


async def others_take_the_machine(it: Installation) -> list[Round]:
    """Others compute on the machine, many times as many as it has cores."""
    command = [sys.executable, "-c", BUSY]
    hogs = [subprocess.Popen(command) for _ in range(16 * (os.cpu_count() or 1))]
    try:
        return await it.watch(20)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


async def trainings_killed(it: Installation) -> list[Round]:
    """Trainings need more memory than there is."""
    await it.look()
    watching = asyncio.create_task(it.until("headrace_trainings_total", 2, outcome="failed"))
    while not watching.done():
        for pid in children(it.worker("trainer").process.pid):
            if "train_process" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
    await watching
    return it.rounds


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def redis_frozen(it: Installation) -> list[Round]:
    pid = it.stack.redis.pid
    assert pid is not None
    with it.held(pid):
        return await it.watch(20)


async def too_many_requests(it: Installation) -> list[Round]:
    over = asyncio.Event()

    async def flood(caller: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            user = f"user-{number % 600:05d}"
            request = RecRequest(f"flood-{caller}-{number}-{now_ms()}", user, "home", n=20, deadline_ms=150)
            with contextlib.suppress(TimeoutError, HeadraceError):
                await it.client.recommend(request, 5.0)

    floods = [asyncio.create_task(flood(n)) for n in range(1000)]
    rounds = await it.watch(20)
    over.set()
    await asyncio.gather(*floods)
    return rounds


async def ingest_frozen(it: Installation) -> list[Round]:
    with it.held(it.worker("ingest").process.pid):
        # Nobody says any more that the rows in Redis are right: what was said has expired.
        await it.until("headrace_stale_partitions", it.settings.partitions, rows="users")
        return await it.watch(20)


async def serve_frozen(it: Installation) -> list[Round]:
    with it.held(it.worker("serve").process.pid):
        return await it.watch(20)


async def a_worker_comes_and_goes(it: Installation) -> list[Round]:
    """A second worker of a role starts and ends again and again: commits of the first are refused.

    Not at every rebalance: only when a batch is in the works then. So it is tried until three were.
    """
    settings = it.settings.model_copy(update={"metrics_port": 0, "data_dir": it.stack.folder / "second"})
    await it.look()
    refused = 0
    for _ in range(12):
        async with worker_process(settings, "learn", it.stack.folder / "second.log") as second:
            with contextlib.suppress(AssertionError):
                await it.until("headrace_commit_failures_total", refused + 1, 15.0, role="learn")
                refused += 1
            second.terminate()  # it leaves its group; killed, the embedded broker would wait for it for ever
            await asyncio.to_thread(second.wait)
        if refused == 3:
            break
    return it.rounds


async def broker_frozen(it: Installation) -> list[Round]:
    pid = it.stack.broker.pid
    assert pid is not None
    with it.held(pid):
        return await it.watch(30)
