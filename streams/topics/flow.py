"""Declares which agent reads and writes which topics, and in which role it runs.

Roles, the subscriptions of agents (``agents/stage/drive.py``), ``headrace lag``, the tables of
docs/operator.md and the arrows of the diagram in docs/architecture.md follow from this declaration. A topic
is named by its attribute of ``Topics``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.streams.topics.names import Topics


@dataclass(frozen=True, slots=True)
class AgentFlow:
    """One agent and its topics.

    Attributes
    ----------
    name
        Name of the agent and of its file in ``agents/``.
    role
        Role it belongs to. The agents of a role share a Faust app and a consumer group.
    reads
        Topics read as a member of the role's consumer group, in the order of subscription.
    tails
        Topics that every process reads completely, without a group.
    writes
        Topics written, except changelogs.
    state
        Changelogs of its state stores: written by the owner of a partition, read in recovery.
    """

    name: str
    role: str
    reads: tuple[str, ...] = ()
    tails: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    def input_topics(self, topics: Topics) -> tuple[str, ...]:
        """Return the full names of ``reads``."""
        return tuple(getattr(topics, name) for name in self.reads)


AGENTS: tuple[AgentFlow, ...] = (
    AgentFlow(
        "track_users",
        "ingest",
        reads=("users", "events", "impressions", "items"),
        tails=("items",),
        writes=("item_events", "events", "users", "items", "dead_letters"),
        state=("user_state", "shown_state"),
    ),
    AgentFlow(
        "aggregate_items",
        "aggregate",
        reads=("item_events",),
        writes=("dead_letters",),
        state=("item_features", "item_countries", "neighbours"),
    ),
    AgentFlow("join_outcomes", "learn", reads=("impressions", "events"), writes=("examples", "dead_letters")),
    AgentFlow(
        "learn",
        "learn",
        reads=("examples",),
        tails=("impressions", "events", "models", "model_updates"),
        writes=("models", "model_updates", "dead_letters"),
    ),
    AgentFlow("learn_towers", "learn", tails=("events", "items", "models"), writes=("models",)),
    AgentFlow("log_sink", "log", reads=("examples",)),
    AgentFlow("trainer", "trainer", tails=("models",), writes=("models",)),
    AgentFlow("rollout", "trainer", tails=("examples", "models"), writes=("models",)),
    AgentFlow("build_index", "index", tails=("items", "models")),
    AgentFlow(
        "recommend",
        "serve",
        reads=("requests", "bulk_requests"),
        tails=("item_features", "item_countries", "models"),
        writes=("replies", "impressions", "traces", "dead_letters"),
    ),
    AgentFlow("follow_catalog", "serve", tails=("items",)),
    AgentFlow(
        "gateway",
        "gateway",
        tails=("items", "users"),
        writes=("events", "items", "users", "requests", "bulk_requests"),
    ),
    AgentFlow("canary", "canary", writes=("events", "items", "requests")),
    AgentFlow("monitor", "monitor", tails=("models", "items", "users", "traces"), writes=("bulk_requests",)),
)


def agent(name: str) -> AgentFlow:
    """Return the declaration of an agent."""
    return next(flow for flow in AGENTS if flow.name == name)


def roles() -> dict[str, tuple[AgentFlow, ...]]:
    """Return the agents of every role, in the order of ``AGENTS``."""
    names = dict.fromkeys(flow.role for flow in AGENTS)
    return {role: tuple(flow for flow in AGENTS if flow.role == role) for role in names}


def group_reads() -> Mapping[str, tuple[str, ...]]:
    """Return, by role, the topics that its consumer group reads; roles without a group are left out."""
    reads = {
        role: tuple(dict.fromkeys(topic for flow in flows for topic in flow.reads))
        for role, flows in roles().items()
    }
    return {role: topics for role, topics in reads.items() if topics}
