"""Everything that an installation needs for a load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.console.sizing.constants import Constants
from headrace.console.sizing.figures import Figure, Reader, only
from headrace.console.sizing.load import Load
from headrace.console.sizing.online import redis
from headrace.console.sizing.roles import SHARING, RoleNeed, need
from headrace.console.sizing.traffic import DAY_S, Traffic, examples_per_s, traffic
from headrace.streams.settings import Settings
from headrace.streams.topics import flow

#: Partitions for each worker of the largest role: so that it may grow, because their number does not change.
GROWTH = 2
FEWEST_PARTITIONS = 4
#: Roles that are estimated. The others do not follow from the load.
ROLES = (*SHARING, "trainer", "index", "canary", "monitor")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is needed; ``limits`` says what does not work at this load."""

    load: Load
    roles: tuple[RoleNeed, ...]
    topics: dict[str, Traffic]
    redis: tuple[Figure, ...]
    whole: tuple[Figure, ...]
    limits: tuple[str, ...]

    def figures(self) -> Iterator[Figure]:
        """Yield every figure."""
        yield from self.whole
        for role in self.roles:
            yield from role.figures
        yield from self.redis
        for topic in self.topics.values():
            yield from topic.figures

    def value(self, of: str, what: str) -> float:
        """Return one figure."""
        return only(list(self.figures()), of, what).value


def estimate(load: Load, settings: Settings, constants: Constants) -> Estimate:
    """Return what is needed for a load. Pure.

    Raises
    ------
    ConfigError
        The load makes no sense, or a constant is missing.
    """
    load, read = load.checked(), Reader(constants)
    topics = traffic(load, settings, read)
    roles = tuple(need(role, load, settings, topics, read) for role in ROLES if role in flow.roles())
    held = tuple(redis(load, read))
    whole = (_partitions(roles, read), *_kafka(topics, read), _log(load, settings, read))
    limits = [text for role in roles for text in role.limits]
    limits += _rows_in_memory(load, settings, whole[0].value)
    return Estimate(load, roles, topics, held, whole, tuple(limits))


def _partitions(roles: tuple[RoleNeed, ...], read: Reader) -> Figure:
    most = max((role for role in roles if role.role in SHARING), key=lambda role: role.workers)
    wanted, count = most.workers * GROWTH, FEWEST_PARTITIONS
    while count < wanted:
        count *= 2
    read.also([f for f in most.figures if f.what == "workers"])
    return read.figure(
        "kafka", "partitions", count, "", f"a power of two, at least {GROWTH} for each worker of {most.role}"
    )


def _kafka(topics: dict[str, Traffic], read: Reader) -> list[Figure]:
    out = []
    for what, unit in (("kept", "bytes"), ("written", "bytes/month")):
        parts = [only(topic.figures, name, what) for name, topic in topics.items()]
        read.also(parts)
        out.append(read.figure("kafka", what, sum(p.value for p in parts), unit, "all topics, with replicas"))
    return out


def _log(load: Load, settings: Settings, read: Reader) -> Figure:
    days = settings.log_keep_days
    size = examples_per_s(load, settings) * read["parquet_example_bytes"] * days * DAY_S
    return read.figure("training log", "kept", size, "bytes", f"examples/s x bytes x {days:g} days")


def _rows_in_memory(load: Load, settings: Settings, partitions: float) -> list[str]:
    active = load.active_users / partitions
    items = load.items * load.countries / partitions
    if (most := max(active, items)) <= settings.memory_rows:
        return []
    return [
        f"a partition has {most:,.0f} rows in use: set HEADRACE_MEMORY_ROWS to more than that "
        f"({settings.memory_rows:,}), or rows that are in use are evicted"
    ]


def as_json(found: Estimate, constants: Constants) -> dict[str, Any]:
    """Return everything for ``--json``: the figures, their constants, and where these come from."""
    used = sorted({name for figure in found.figures() for name in figure.constants})
    return {
        "load": {name: getattr(found.load, name) for name in found.load.__dataclass_fields__},
        "limits": list(found.limits),
        "figures": [
            {
                "of": f.of, "what": f.what, "value": round(f.value, 3), "unit": f.unit, "how": f.how,
                "constants": list(f.constants),
            }
            for f in found.figures()
        ],
        "constants": {
            name: {
                "value": (one := constants.of(name)).value, "unit": one.unit, "meaning": one.meaning,
                "run": one.run, "at": one.at,
            }
            for name in used
        },
        "runs": {
            name: {"command": run.command, "commit": run.commit, "date": run.date, "machine": run.machine}
            for name, run in constants.runs.items()
            if any(constants.of(c).run == name for c in used)
        },
    }  # fmt: skip
