"""The loop of an agent that answers requests: each batch is acknowledged when its replies are."""

from __future__ import annotations

import functools
from typing import Any, Protocol, TypeVar

from headrace.agents.stage.hold import MAX_UNFINISHED, AckHold
from headrace.streams.transport.batches import together

SentT = TypeVar("SentT")


class Answering(Protocol[SentT]):
    """Answers the requests of a batch; the replies are on their way when ``answer`` returns."""

    async def answer(self, batch: Any) -> SentT:
        """Answer every request of a batch; return the replies."""
        ...

    async def finish(self, batch: Any, sent: SentT) -> None:
        """Wait until the replies are acknowledged."""
        ...


async def answer_all(
    stream: Any, stage: Answering[Any], unfinished: int = MAX_UNFINISHED, most: int = 0
) -> None:
    """Answer every batch of a stream; acknowledge each when its replies are acknowledged.

    Parameters
    ----------
    stream
        Of requests.
    stage
        Answers a ``RecordBatch``; with ``most`` ``Batches``, too.
    unfinished
        No batch is begun while the replies of so many are not acknowledged.
    most
        Batches that wait for one another are answered together while they have at most so many requests.
    """
    held = AckHold(unfinished)
    try:
        async for batch, ack in together(stream, most):
            # A rebalance or a stop waits until the replies are sent, as for a loop body.
            consumer = stream.current_event.message.consumer
            body = consumer.body_started()
            over = functools.partial(consumer.body_ended, body)
            try:
                sent = await stage.answer(batch)
            except BaseException:
                over()
                raise
            await held.after(stage.finish(batch, sent), ack, over)
    finally:
        held.cancel()
