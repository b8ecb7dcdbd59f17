"""A broker may lose the last records of logs (a power cut), and refuses the next write of whoever wrote them.

Their producer counts on; the broker has forgotten the numbers of what it lost. Another producer may write. So
what is refused is written again with one: it surely is not in the log, for the broker knows the numbers of
what is there. ``written_again`` says of which topics. Others have their own way: a changelog is written again
when this worker still may (``StateStore``), `examples` after a look at what is there (``JoinWriter``). A
command ends: call it again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiokafka.errors import OutOfOrderSequenceNumber, UnknownProducerId

from headrace.streams.topics.names import Topics

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: How a broker refuses it; the second is that of Kafka before 2.5, and of one that has lost all of a log.
LOST_END: Final = (OutOfOrderSequenceNumber, UnknownProducerId)


async def again_if_lost(write: Callable[[], Awaitable[_T]], check: Callable[[], None] | None = None) -> _T:
    """Write something; once more when the broker has lost the last records of the sender's producer.

    All of it is written again. Some of it may have been written the first time, and is there twice then.

    Parameters
    ----------
    write
        Writes all of it.
    check
        Raises when it must not be written any more.
    """
    try:
        return await write()
    except LOST_END as exc:
        log.warning("the broker has lost the last records: they are written again (%r)", exc)
        if check is not None:
            check()
        return await write()


def say_again(topic: str, partition: int, why: Exception) -> None:
    """Log that what a broker has refused is written again."""
    log.warning(
        "the broker has lost the last records of %s-%d: what it refused is written again (%r)",
        topic,
        partition,
        why,
        extra={"action": "written_again", "topic": topic},
    )


def written_again(topics: Topics) -> frozenset[str]:
    """Return the topics whose refused records ``BatchSender`` writes again: readers go by what is there.

    Replies have topics of their callers; ``ReplySender`` writes them again.
    """
    return frozenset(
        (
            *(topics.events, topics.users, topics.items, topics.requests, topics.bulk_requests),
            *(topics.impressions, topics.item_events, topics.dead_letters, topics.traces),
            *(topics.models, topics.model_updates),
        )
    )
