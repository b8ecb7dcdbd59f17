"""Committing offsets as a member of a group that may be rebalancing, without harm to the rebalance."""

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
    for_code,
)

log = logging.getLogger(__name__)

RETRY_S = 0.1


async def commit_offsets(coordinator: Any, offsets: Mapping[Any, int]) -> bool:
    """Commit and return True, or False when the group moves on without it: others own the partitions then.

    Not aiokafka's commit: when a rebalance has begun, that one forgets its membership and rejoins as a
    stranger, and the group waits for the member that is no more until its session ends.

    Parameters
    ----------
    coordinator
        An aiokafka ``GroupCoordinator``.
    offsets
        (topic, partition) -> next offset to be read.

    Raises
    ------
    KafkaError
        What trying again does not help against.
    """
    by_topic: dict[str, list[tuple[int, int, str]]] = {}
    for (topic, partition), offset in offsets.items():
        by_topic.setdefault(topic, []).append((partition, offset, ""))
    generation = coordinator.generation
    if generation == OffsetCommitRequest.DEFAULT_GENERATION_ID:
        # A commit without a generation is taken from anybody while the group is empty.
        log.info("Offsets were not committed, this worker is no member of the group")
        return False
    while by_topic and generation == coordinator.generation:
        await coordinator.ensure_coordinator_known()
        request = OffsetCommitRequest(
            coordinator.group_id, generation, coordinator.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME, list(by_topic.items()),
        )  # fmt: skip
        try:
            answer = await coordinator._send_req(request)
            for code in {code for _, partitions in answer.topics for _, code in partitions} - {0}:
                raise for_code(code)
        except (RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError) as exc:
            # Whoever owns the partitions then starts from the previous commit.
            log.info("Offsets were not committed, the group is rebalancing (%s)", type(exc).__name__)
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
