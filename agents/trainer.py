"""trainer: reads the Parquet log; writes the ranker to `models`; keeps nothing."""

from __future__ import annotations

import asyncio
import logging

from mode import Service

from headrace.agents.wiring import Wiring
from headrace.models.learning import ranker
from headrace.models.learning.examples import FOLDER
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.training import TrainResult, train_from_log

log = logging.getLogger(__name__)


async def train_once(wiring: Wiring, params: RankerParams | None = None) -> tuple[TrainResult, str] | None:
    """Train a ranker on the log and publish it.

    Returns
    -------
    The result and the version of the ranker; None while the log has too few rows or clicks.
    """
    s = wiring.settings
    # LightGBM releases the GIL, so in a thread it does not block the event loop.
    result = await asyncio.to_thread(
        train_from_log,
        s.data_dir,
        params or RankerParams(),
        min_rows=s.train_min_rows,
        min_clicks=s.train_min_clicks,
    )
    if result is None:
        return None
    value, version = ranker.encode(result.text, wiring.clock.now_ms(), result.metrics)
    await wiring.sender.send_many(
        wiring.topics.models, [(ranker.NAME.encode(), value, None, [])], partition=0
    )
    return result, version


class Trainer(Service):
    """Trains every ``train_every_s`` if the log has new files."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._files = -1
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Trainer"

    @Service.task
    async def _train(self) -> None:
        while not self.should_stop:
            await self.sleep(self._wiring.settings.train_every_s)
            folder = self._wiring.settings.data_dir / FOLDER
            files = len(list(folder.glob("*.parquet"))) if folder.is_dir() else 0
            if self.should_stop or files == self._files:
                continue
            self._files = files
            try:
                done = await train_once(self._wiring)
            except Exception:
                # The present ranker stays in use, other roles of this process run on; the next file tries
                # again.
                log.exception("training failed", extra={"action": "training_failed"})
                continue
            if done is not None:
                result, version = done
                log.info("ranker %s trained on %d examples: %s", version, result.rows, result.metrics)
