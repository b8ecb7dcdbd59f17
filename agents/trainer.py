"""trainer: reads the Parquet log; writes the ranker to `models`; keeps nothing."""

from __future__ import annotations

import asyncio
import logging

from mode import Service

from headrace.agents.wiring import Wiring
from headrace.models.learning import log_files, ranker
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.train_process import train_apart
from headrace.models.learning.training import TrainJob, TrainResult

log = logging.getLogger(__name__)


async def train_once(wiring: Wiring, params: RankerParams | None = None) -> tuple[TrainResult, str] | None:
    """Train a ranker on the log, in a process of its own, and publish it.

    Returns
    -------
    The result and the version of the ranker; None while the log has too few rows or clicks.

    Raises
    ------
    HeadraceError
        The process failed.
    """
    s = wiring.settings
    job = TrainJob(
        log_files.folder_of(s),
        params or RankerParams(),
        min_rows=s.train_min_rows,
        min_clicks=s.train_min_clicks,
        max_rows=s.train_max_rows,
        sample_rows=s.train_sample_rows,
        unshown_weight=s.train_unshown_weight,
        weight_clip=s.train_weight_clip,
        user_slots=s.train_user_slots,
        user_clicks=s.train_user_clicks,
        smoothing=s.train_smoothing,
        objectives=dict(s.objectives),
    )
    result = await train_apart(job)
    if result is None:
        return None
    value, version = ranker.encode(result.objectives, wiring.clock.now_ms(), result.metrics, result.left_out)
    await wiring.sender.send_many(
        wiring.topics.models, [(ranker.NAME.encode(), value, None, [])], partition=0
    )
    return result, version


class Trainer(Service):
    """Trains every ``train_every_s`` if the log has new files; a training under way ends with the service."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._newest: dict[int, tuple[int, int]] = {}
        self._training: asyncio.Task[tuple[TrainResult, str] | None] | None = None
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Trainer"

    @Service.task
    async def _train(self) -> None:
        while not self.should_stop:
            await self.sleep(self._wiring.settings.train_every_s)
            folder = log_files.folder_of(self._wiring.settings)
            newest = await asyncio.to_thread(log_files.newest, folder)
            if self.should_stop or newest == self._newest:
                continue
            self._newest = newest
            self._training = asyncio.create_task(train_once(self._wiring))
            try:
                done = await self._training
            except Exception:
                # The present ranker stays in use, other roles of this process run on; the next file tries
                # again.
                log.exception("training failed", extra={"action": "training_failed"})
                continue
            if done is not None:
                result, version = done
                log.info("ranker %s trained on %d examples: %s", version, result.rows, result.metrics)
                if result.left_out:
                    log.info("not learnt, too few of them: %s; the others have their weight", result.left_out)

    async def on_stop(self) -> None:
        """Kill a training that runs, and wait until its process is gone."""
        if self._training is not None and not self._training.done():
            self._training.cancel()
            await asyncio.wait({self._training})
