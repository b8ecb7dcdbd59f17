"""A broker may lose the last records of logs (a power cut), and refuses the next write of whoever wrote them.

Their producer counts on; the broker has forgotten the numbers of what it lost. Another producer may write, so
a refused write is made again with one. Some of it may be there twice then, which is right for most topics
(``readers_drop_copies``). Others have their own way: a changelog is written again when this worker still may
(``StateStore``), `examples` after a look at what is there (``JoinWriter``). A command ends: call it again.
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

    For records that may be there twice: some of them may have been written the first time.

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
        log.warning(
            "the broker has lost the last records of a log: what it refused is written again (%s)",
            type(exc).__name__,
            extra={"action": "written_again"},
        )
        if check is not None:
            check()
        return await write()


def readers_drop_copies(topics: Topics) -> frozenset[str]:
    """Return the topics in which a record may be twice: readers drop the second one, or the last one holds.

    Replies are known by their ``request_id``, and have topics of their callers: ``ReplySender`` knows.
    """
    return frozenset(
        (
            *(topics.events, topics.users, topics.items, topics.requests, topics.bulk_requests),
            *(topics.impressions, topics.item_events, topics.dead_letters, topics.traces),
            *(topics.models, topics.model_updates),
        )
    )
