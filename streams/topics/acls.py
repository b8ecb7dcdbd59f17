"""What each role may do in Kafka, and no more. It follows from the topics that its agents declare. Pure.

Reading and writing a topic include ``Describe``. ``DescribeConfigs`` is there because a worker checks the
settings of its topics at the start. A worker with a group also looks, with ``Describe``, at the topics that
``headrace repartition`` grows first and last: it must not start in between.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from headrace.streams.settings import Settings
from headrace.streams.topics.flow import AGENTS, group_reads, roles
from headrace.streams.topics.growths import staging_of
from headrace.streams.topics.names import Topics

#: Users that run no role: who sends events, items and profiles; who asks for lists; who runs ``headrace lag``
#: and ``why-lag``; who runs ``headrace repartition``; and who runs every other command.
OTHERS = ("producer", "caller", "lag", "operator", "repartition")
#: Grown first and last by ``headrace repartition``.
FIRST_GROWN, LAST_GROWN = "item_events", "dead_letters"
#: The order in which operations are named.
_ORDER = ("Read", "Write", "Create", "Delete", "Alter", "Describe", "DescribeConfigs", "IdempotentWrite")
_CLUSTER = "kafka-cluster"


@dataclass(frozen=True, slots=True)
class Grant:
    """What is allowed with one resource.

    Attributes
    ----------
    kind
        Of the resource.
    name
        Its name, or how its name begins.
    operations
        Kafka's names of what is allowed.
    prefixed
        Whether ``name`` is only how it begins.
    """

    kind: Literal["topic", "group", "cluster"]
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


class _Grants:
    """Collects operations on resources, in the order in which the resources are first named."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, bool], set[str]] = {}

    def add(self, kind: str, names: Iterable[str], *operations: str, prefixed: bool = False) -> None:
        for name in names:
            self._found.setdefault((kind, name, prefixed), set()).update(operations)

    def all(self) -> tuple[Grant, ...]:
        return tuple(
            Grant(kind, name, tuple(sorted(operations, key=_ORDER.index)), prefixed)  # type: ignore[arg-type]
            for (kind, name, prefixed), operations in self._found.items()
        )


def users() -> tuple[str, ...]:
    """Return the roles and ``OTHERS``."""
    return (*roles(), *OTHERS)


def topics_of(chosen: Iterable[str], settings: Settings) -> set[str]:
    """Return the full names of all topics that some roles read or write, or look at."""
    return {
        grant.name
        for role in chosen
        for grant in grants(role, settings)
        if grant.kind == "topic" and not grant.prefixed
    } & {spec.name for spec in Topics(settings).specs(settings)}


def grants(user: str, settings: Settings) -> tuple[Grant, ...]:
    """Return what a role, or one of ``OTHERS``, may do."""
    out, topics = _Grants(), Topics(settings)

    def named(names: Iterable[str]) -> list[str]:
        return [getattr(topics, name) for name in dict.fromkeys(names)]

    flows = roles().get(user, ())
    for flow in flows:
        out.add("topic", named((*flow.reads, *flow.tails, *flow.state)), "Read", "DescribeConfigs")
        written = [name for name in (*flow.writes, *flow.state) if name != "replies"]
        out.add("topic", named(written), "Write", "DescribeConfigs")
        if "replies" in flow.writes:
            for begins, prefixed in reply_topics(settings):
                out.add("topic", [begins], "Write", "DescribeConfigs", prefixed=prefixed)
    if user in group_reads():
        used = {name for flow in flows for name in (*flow.reads, *flow.tails, *flow.writes)}
        looked_at = [name for name in (FIRST_GROWN, LAST_GROWN) if name not in used]
        out.add("topic", named(looked_at), "Describe", "DescribeConfigs")
        out.add("group", [_group(settings, user)], "Read")
    if flows and not any("Write" in grant.operations for grant in out.all()):
        # The producer of a process is idempotent. Who may write some topic may have one anyway.
        out.add("cluster", [_CLUSTER], "IdempotentWrite")
    match user:
        case "gateway":
            out.add("topic", [settings.name(f"rec-replies-{settings.gateway_name}")], "Read", "Create")
        case "canary":
            out.add("topic", [settings.name("rec-replies-canary")], "Read", "Create")
        case "monitor":
            out.add("topic", [settings.name("rec-replies-monitor-")], "Read", "Create", prefixed=True)
            _see_lag(out, settings)
        case "producer":
            out.add("topic", named(("events", "items", "users")), "Write")
        case "caller":
            out.add("topic", named(("requests", "bulk_requests")), "Write")
            out.add("topic", [settings.name("rec-replies")], "Read", "Create", prefixed=True)
        case "lag":
            _see_lag(out, settings)
        case "operator" | "repartition":
            every = [spec.name for spec in topics.specs(settings)]
            out.add("topic", every, "Read", "Write", "Create", "DescribeConfigs")
            if user == "operator":
                own = [settings.name("rec-replies-"), settings.name("conformance-")]
                out.add("topic", own, "Read", "Write", "Create", "Delete", prefixed=True)
            else:
                state = named(name for flow in AGENTS for name in flow.state)
                out.add("topic", every, "Alter")
                out.add("topic", state, "Delete")
                copies = map(staging_of, state)
                out.add("topic", copies, "Read", "Write", "Create", "Delete", "DescribeConfigs")
            _see_lag(out, settings)
    return out.all()


def _group(settings: Settings, role: str) -> str:
    return settings.name(f"headrace-{role}")


def _see_lag(out: _Grants, settings: Settings) -> None:
    """Allow what ``headrace lag`` asks: committed offsets, members, and the first record that waits."""
    topics = Topics(settings)
    for role, reads in group_reads().items():
        out.add("group", [_group(settings, role)], "Describe")
        out.add("topic", [getattr(topics, name) for name in reads], "Read")


def reply_topics(settings: Settings) -> list[tuple[str, bool]]:
    """Return the patterns of reply topics as ACLs can say them: a name, or how names begin and True.

    Kafka has no other patterns: of ``rec-*-replies`` only the part before the star counts.
    """
    out = []
    for pattern in dict.fromkeys(settings.reply_topics):
        begins = re.split(r"[*?\[]", settings.name(pattern), maxsplit=1)[0]
        glob = begins != settings.name(pattern)
        out.append((begins, True) if begins and glob else (begins or "*", False))
    return out


def commands(user: str, settings: Settings, principal: str) -> Iterator[str]:
    """Yield the commands of Kafka that allow a role what it needs; one for resources with the same rights."""
    alike: dict[tuple[str, bool, tuple[str, ...]], list[str]] = {}
    for grant in grants(user, settings):
        alike.setdefault((grant.kind, grant.prefixed, grant.operations), []).append(grant.name)
    broker = settings.brokers.split(",")[0]
    for (kind, prefixed, operations), names in alike.items():
        words = ["kafka-acls.sh", "--bootstrap-server", broker, "--command-config", "admin.properties"]
        words += ["--add", "--allow-principal", principal]
        words += [word for operation in operations for word in ("--operation", operation)]
        if kind == "cluster":
            words.append("--cluster")
        else:
            words += [word for name in names for word in (f"--{kind}", name)]
            words += ["--resource-pattern-type", "prefixed"] if prefixed else []
        yield shlex.join(words)


def table(settings: Settings) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each user: what it reads, writes, its groups and what else it may; as Markdown."""
    every = {spec.name for spec in Topics(settings).specs(settings)}
    return [
        (
            f"`{user}`",
            _named(given, "topic", "Read", every),
            _named(given, "topic", "Write", every),
            _listed(given, "group", ("Read", "Describe"), every),
            "; ".join(
                filter(
                    None,
                    (
                        _listed(given, "topic", ("Create", "Delete", "Alter", "Describe"), every),
                        _listed(given, "cluster", ("IdempotentWrite",), every),
                    ),
                )
            ),
        )
        for user, given in ((user, grants(user, settings)) for user in users())
    ]


def _listed(given: Iterable[Grant], kind: str, operations: Iterable[str], every: set[str]) -> str:
    parts = [(operation, _named(given, kind, operation, every)) for operation in operations]
    return "; ".join(f"{operation}: {names}" for operation, names in parts if names)


def _named(given: Iterable[Grant], kind: str, operation: str, every: set[str]) -> str:
    found = [grant for grant in given if grant.kind == kind and operation in grant.operations]
    names = [grant.name for grant in found if not grant.prefixed]
    shown = [f"`{grant.name}{'*' if grant.prefixed else ''}`" for grant in found]
    if every <= set(names):
        rest = [text for grant, text in zip(found, shown, strict=True) if grant.name not in every]
        shown = ["every topic", *rest]
    return ", ".join(shown)
