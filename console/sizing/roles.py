"""Workers of every role: how many, how busy, how large, and the bytes that they read and write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.console.sizing import state
from headrace.console.sizing.figures import Figure, Reader
from headrace.console.sizing.load import Load
from headrace.console.sizing.traffic import MONTH_S, Traffic, examples_per_s, slots_per_s
from headrace.streams.settings import Settings
from headrace.streams.topics import flow

GB = 1e9
#: Roles that share partitions: they have as many workers as the load needs. The others have one; `index` has
#: one on each machine that serves, `gateway` as many as its callers need.
SHARING = tuple(flow.group_reads())
#: What callers and producers write, though some agents write it, too; and what does not follow from the load.
_OTHERS = {"events", "users", "items", "requests", "bulk_requests", "dead_letters", "models", "model_updates"}
#: Of these roles, all processes together read what is tailed once; else each process reads all of it.
_ONCE = {"learn"}


@dataclass(frozen=True, slots=True)
class RoleNeed:
    """What one role needs.

    Attributes
    ----------
    role
        Its name.
    workers
        Processes.
    figures
        All figures, with their formulas.
    limits
        What does not work at this load, in sentences.
    """

    role: str
    workers: int
    figures: tuple[Figure, ...]
    limits: tuple[str, ...]


def work_of(role: str, load: Load, settings: Settings, read: Reader) -> float:
    """Return the cores that the work of a role takes, its own start and idling left out."""
    events, lists, slots = load.events_per_s, load.requests_per_s, slots_per_s(load)
    us = {
        "ingest": lambda: events * read["ingest_us_per_event"] + lists * read["ingest_us_per_list"],
        "aggregate": lambda: events * read["aggregate_us_per_event"] + slots * read["aggregate_us_per_slot"],
        "learn": lambda: events * read["learn_us_per_event"] + lists * read["learn_us_per_list"],
        "log": lambda: examples_per_s(load, settings) * read["log_us_per_example"],
        "serve": lambda: lists * read["serve_us_per_list"],
    }
    return us[role]() / 1e6 if role in us else 0.0


def tail_of(role: str, topics: Mapping[str, Traffic], read: Reader) -> float:
    """Return the cores that every process of `serve` uses to read the rows of items; 0 for other roles."""
    if role != "serve":
        return 0.0
    rows = topics["item_features"].records_per_s + topics["item_countries"].records_per_s
    return rows * read["serve_us_per_item_row"] / 1e6


_STATE: dict[str, Callable[[Load, Settings, Reader], float]] = {
    "ingest": state.ingest,
    "aggregate": state.aggregate,
    "learn": state.learn,
}
_EACH: dict[str, Callable[[Load, Reader], float]] = {"ingest": state.each_ingest, "serve": state.each_serve}


def need(role: str, load: Load, settings: Settings, topics: Mapping[str, Traffic], read: Reader) -> RoleNeed:
    """Return what a role needs.

    Workers are as many as keep each of them below ``load.busy`` of a core and ``load.worker_gb`` of memory.
    """
    limits: list[str] = []
    each_cores = read[f"idle_cores_{role}"] + tail_of(role, topics, read)
    work = work_of(role, load, settings, read)
    left = load.busy - each_cores
    if left <= 0:
        limits.append(
            f"{role}: every process would use {each_cores:.2f} of a core before it does any work of its own, "
            f"more than the {load.busy:g} that are allowed: this load needs another design"
        )
        left = load.busy
    by_cpu = math.ceil(work / left) if work else 1
    held = _STATE[role](load, settings, read) if role in _STATE else 0.0
    each = read[f"base_bytes_{role}"] + (_EACH[role](load, read) if role in _EACH else 0.0)
    room = load.worker_gb * GB - each
    if room <= 0:
        limits.append(
            f"{role}: every process needs {each / GB:.1f} GB, more than the {load.worker_gb:g} GB allowed "
            "(--worker-gb)"
        )
        room = load.worker_gb * GB
    by_memory = math.ceil(held / room)
    workers = max(by_cpu, by_memory, load.least) if role in SHARING else 1
    out = [
        read.figure(role, "workers", workers, "", "cores / share of a core, state / memory, at least --least")
    ]
    read.also(out)
    cores = work + workers * each_cores
    out.append(read.figure(role, "cores", cores, "cores", "records/s x CPU of one, and of each process"))
    read.also(out[:1])
    size = each + held / workers
    out.append(read.figure(role, "memory of a worker", size, "bytes", "idle process + its part of the state"))
    if role == "ingest":
        read.also(out[:1])
        disk = state.ingest_disk(load, settings, read) / workers
        out.append(read.figure(role, "disk of a worker", disk, "bytes", "evicted rows and snapshots"))
    if role == "serve":
        size = state.machine_serve(load, read)
        out.append(read.figure(role, "catalogue of a machine", size, "bytes", "items x bytes of a snapshot"))
    return RoleNeed(role, workers, (*out, *_moved(out[0], settings, topics, read)), tuple(limits))


def _moved(workers: Figure, settings: Settings, topics: Mapping[str, Traffic], read: Reader) -> list[Figure]:
    """Return the bytes that a role reads from Kafka in a month, and those that it writes."""
    role = workers.of
    read.also([workers])
    read_s = written_s = 0.0
    for agent in flow.roles()[role]:
        counted = [(topic, 1.0) for topic in agent.reads]
        counted += [(topic, 1.0 if role in _ONCE else workers.value) for topic in agent.tails]
        counted += [(topic, float(settings.standby_replicas)) for topic in agent.state]
        for topic, times in counted:
            if topic in topics:
                read_s += times * topics[topic].bytes_per_s
                read.also(topics[topic].figures)
        for topic in {*agent.writes, *agent.state} - _OTHERS:
            if topic in topics:
                written_s += topics[topic].bytes_per_s
                read.also(topics[topic].figures)
    how = "records/s x bytes x 30 days, of each topic"
    first = read.figure(
        role, "read", read_s * MONTH_S, "bytes/month", f"{how}; by each process that reads it"
    )
    read.also([first])
    return [first, read.figure(role, "written", written_s * MONTH_S, "bytes/month", how)]
