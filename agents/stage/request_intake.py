"""What requests are read with, and which of them are in the wrong partition."""

from __future__ import annotations

from headrace.agents.wiring import Wiring
from headrace.serving.requests.misplaced import MisplacedRequests
from headrace.serving.requests.read import RequestReader
from headrace.streams.topics.placement import misplaced
from headrace.streams.transport.batches import RecordBatch


class RequestIntake:
    """Reads requests.

    Attributes
    ----------
    requests
        Decodes records.
    """

    def __init__(self, wiring: Wiring) -> None:
        settings = wiring.settings
        self._wiring, self.requests = wiring, RequestReader(settings)
        self._misplaced = MisplacedRequests(refuse=settings.wrong_partition == "refuse", clock=wiring.clock)

    def misplaced(self, batch: RecordBatch) -> set[int]:
        """Count the requests in the wrong partition; return the offsets of those to refuse."""
        partitions = self._wiring.sender.known_partitions(self._wiring.topics.requests)  # all have as many
        if not partitions:
            return set()
        wrong = misplaced(batch.records, batch.partition, partitions)
        return self._misplaced.refused(batch.records, wrong, f"{batch.topic}-{batch.partition}")
