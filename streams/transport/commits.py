"""Commits offsets as a member of a group; a rebalance that has begun is not disturbed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka.consumer.group_coordinator import OffsetCommitRequest
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)

log = logging.getLogger(__name__)

RETRY_S = 0.1
#: Error code of a topic that does not exist, or not yet on this broker.
_NO_TOPIC = UnknownTopicOrPartitionError.errno


def _errors(answer: Any) -> set[int]:
    """Return the error codes of an answer; a topic that does not exist any more is none."""
    codes = {code for _, partitions in answer.topics for _, code in partitions}
    if _NO_TOPIC in codes:
        log.info("Offsets of a topic that does not exist were not committed")
    return codes - {0, _NO_TOPIC}


async def commit_offsets(coordinator: Any, offsets: Mapping[Any, tuple[int, str]]) -> bool:
    """Commit offsets; return False when a rebalance or a lost membership prevented the commit.

    It replaces aiokafka's commit. When a rebalance has begun, aiokafka's forgets its member id and joins as a
    new member, and the group waits for the old member until its session ends.

    Parameters
    ----------
    coordinator
        An aiokafka ``GroupCoordinator``.
    offsets
        (topic, partition) -> next offset to be read, and its metadata.

    Raises
    ------
    KafkaError
        When the error is one that a retry does not solve.
    """
    by_topic: dict[str, list[tuple[int, int, str]]] = {}
    for (topic, partition), (offset, metadata) in offsets.items():
        by_topic.setdefault(topic, []).append((partition, offset, metadata))
    generation = coordinator.generation
    if generation == OffsetCommitRequest.DEFAULT_GENERATION_ID:
        # While a group is empty, the broker accepts a commit without a generation from any client.
        log.info("Offsets were not committed: this worker is not a member of the group")
        return False
    while by_topic and generation == coordinator.generation:
        await coordinator.ensure_coordinator_known()
        request = OffsetCommitRequest(
            coordinator.group_id, generation, coordinator.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME, list(by_topic.items()),
        )  # fmt: skip
        try:
            answer = await coordinator._send_req(request)
            for code in _errors(answer):
                raise for_code(code)
        except (RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError) as exc:
            # The next owner of the partitions starts at the previous commit.
            log.info("Offsets were not committed: the group is rebalancing (%s)", type(exc).__name__)
            coordinator.request_rejoin()
            return False
        except KafkaError as exc:
            if not exc.retriable:
                raise
            if isinstance(exc, (NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError)):
                coordinator.coordinator_dead()
            await asyncio.sleep(RETRY_S)
        else:
            return True
    return False
