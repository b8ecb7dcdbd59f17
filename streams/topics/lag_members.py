"""Reads which member of a consumer group has which partition, from the broker's description of the group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group: its id, as in its log, and the address it comes from."""

    id: str
    host: str


@dataclass(frozen=True, slots=True)
class Members:
    """Who has the partitions of a group.

    Attributes
    ----------
    known
        False when the broker does not tell: during a rebalance, or when it may not tell us.
    by_partition
        (topic, partition) -> its member; a partition that is not here has none.
    """

    known: bool
    by_partition: Mapping[tuple[str, int], Member] = field(default_factory=dict)

    def get(self, topic: str, partition: int) -> Member | None:
        """Return the member that has a partition, None without one, or when it is not known."""
        return self.by_partition.get((topic, partition))


UNKNOWN = Members(known=False)


async def members_of(admin: AIOKafkaAdminClient, group: str) -> Members:
    """Ask for the members of one group. (With several in one answer, aiokafka misreads all but the first.)"""
    (answer,) = await admin.describe_consumer_groups([group])
    error, _, state, _, _, members, *_ = answer.groups[0]
    return UNKNOWN if error else members_from(state, members)


def members_from(state: str, members: Iterable[Sequence[Any]]) -> Members:
    """Return the members of a described group: id, client, host, metadata, assignment. Pure.

    Only a stable group has an assignment, and an empty or dead one has no members. An assignment that cannot
    be read makes all unknown.
    """
    if state in ("Empty", "Dead"):
        return Members(known=True)
    if state != "Stable":
        return UNKNOWN
    out = {}
    for member_id, _, host, _, assignment, *_ in members:
        member = Member(member_id, host.removeprefix("/"))
        try:
            held = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else ()
        except (ValueError, TypeError):
            return UNKNOWN
        out.update({(tp.topic, tp.partition): member for tp in held})
    return Members(known=True, by_partition=out)
