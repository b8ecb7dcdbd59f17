"""trainer: reads the Parquet log, `models`; writes rankers and which one is tried to `models`; keeps nothing.

A new ranker is a candidate (`models/learning/pointers.py`). One that is clearly worse than the live one on
examples that neither was trained on is kept in the registry, and never published.
"""

from __future__ import annotations

import asyncio
import logging

from mode import Service

from headrace.agents.stage.pointing import point, read_shelf, tombstones
from headrace.agents.wiring import Wiring
from headrace.models.learning import gate, histograms, log_files, pointers, ranker, registry, report_page
from headrace.models.learning.places import Place
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.registry import Registry
from headrace.models.learning.shelf import Shelf
from headrace.models.learning.train_process import train_apart
from headrace.models.learning.training import TrainJob, TrainResult
from headrace.streams.errors import ArtefactError

log = logging.getLogger(__name__)

#: How a training ends: its ranker is a candidate, or the gate refuses it, or there is none.
OUTCOMES = ("candidate", "refused", "failed")


async def train_once(
    wiring: Wiring, params: RankerParams | None = None, dask: str = "", *, ablation: bool = False
) -> tuple[TrainResult, str] | None:
    """Train a ranker on the log, in a process of its own; publish it as a candidate, unless it is refused.

    With the address of a scheduler, a Dask cluster trains it.

    Returns
    -------
    The result and the version of the ranker; None while the log has too few rows or clicks.

    Raises
    ------
    HeadraceError
        The process failed.
    """
    s = wiring.settings
    shelf = await read_shelf(s, wiring.topics.models)
    unfit = await asyncio.to_thread(_unfit, shelf)
    live, live_kind, live_ts = await asyncio.to_thread(_live, Registry(registry.folder_of(s)), shelf, unfit)
    job = TrainJob(
        log_files.folder_of(s),
        params or RankerParams(),
        min_rows=s.train_min_rows,
        min_clicks=s.train_min_clicks,
        max_rows=s.train_max_rows,
        sample_rows=s.train_sample_rows,
        live=live,
        live_kind=live_kind,
        live_ts=live_ts,
        dask=dask,
        unseen_weight=s.train_unseen_weight,
        unshown_weight=s.train_unshown_weight,
        weight_clip=s.train_weight_clip,
        user_slots=s.train_user_slots,
        user_clicks=s.train_user_clicks,
        smoothing=s.train_smoothing,
        objectives=dict(s.objectives),
        report=True,
        ablation=ablation,
    )
    result = await train_apart(job)
    if result is None:
        return None
    version = await _offer(wiring, result, unfit)
    await asyncio.to_thread(_keep_report, Registry(registry.folder_of(s)), version, result, s.gate_margin)
    await _forget(wiring, set(shelf.unused()))
    return result, version


def _unfit(shelf: Shelf) -> str:
    """Return the version that is live if this code cannot use it, as after an upgrade; else empty."""
    version = shelf.pointers.live
    try:
        if version in shelf.texts:
            ranker.decode(shelf.texts[version])
    except ArtefactError as exc:
        log.warning("the live ranker does not fit, the next one takes its place: %s", exc)
        return version
    return ""


def _live(found: Registry, shelf: Shelf, unfit: str) -> tuple[Place | None, str, int]:
    """Return file and kind of the live ranker, and when it was made (ms); None: there is none that fits."""
    version = shelf.pointers.live
    if version not in shelf.texts or version == unfit:
        return None, ranker.KIND, 0
    try:
        if version not in {about.version for about in found.versions()}:
            found.add(shelf.texts[version], "published")
        about = found.about(version)
        return found.model_file(version), about.kind, about.created_ts
    except ArtefactError as exc:
        log.warning("the live ranker is not compared with: %s", exc)
        return None, ranker.KIND, 0


async def _offer(wiring: Wiring, result: TrainResult, unfit: str) -> str:
    """Register a ranker and make it a candidate, unless the gate refuses it; return its version.

    In place of ``unfit`` it is live at once.
    """
    s, now = wiring.settings, wiring.clock.now_ms()
    value, version = ranker.encode(result.objectives, now, result.metrics, result.left_out)
    refused = gate.refusal(result.metrics, s.gate_margin)
    found = Registry(registry.folder_of(s))
    await asyncio.to_thread(found.add, value, "trained", refused)
    if refused:
        wiring.metrics.count("headrace_trainings_total", "refused")
        log.warning("ranker %s is refused: %s", version, refused, extra={"action": "ranker_refused"})
        return version
    before: list[str] = []

    def change(p: Pointers) -> Pointers:
        before[:] = p.candidates()
        at_once, most = s.rollout == "off", s.rollout_candidates
        return pointers.offered(p, version, now, "trainer", at_once=at_once, most=most, unfit=unfit)

    done = await point(s, wiring.topics.models, wiring.sender, change, [(version, value)])
    wiring.metrics.count("headrace_trainings_total", "candidate")
    for gone in set(before) - done.named():
        await asyncio.to_thread(found.note, gone, f"its place among the candidates went to {version}")
    await asyncio.to_thread(found.prune, s.models_keep, done.named())
    return version


def write_report(folder: Place, result: TrainResult, version: str, refused: str, now: int) -> list[Place]:
    """Write the report of a training into a folder; return the files. ``now`` is when it was made, ms."""
    told = {"version": version, "created_ts": now, "refused": refused, "metrics": result.metrics}
    return report_page.write(folder, told | {"objectives": {}, "ablation": None} | result.report)


def _keep_report(found: Registry, version: str, result: TrainResult, margin: float) -> None:
    """Keep report and distributions beside a ranker. It is in use already: no failure here takes it back."""
    try:
        about, folder = found.about(version), found.folder_of_version(version)
        if result.features is not None:
            histograms.save(folder, result.features)
        write_report(folder, result, version, gate.refusal(result.metrics, margin), about.created_ts)
    except Exception:
        log.exception("the report of ranker %s is not kept", version, extra={"action": "report_failed"})


async def _forget(wiring: Wiring, unused: set[str]) -> None:
    """Delete the texts that nothing pointed at before the training, and nothing points at now."""
    shelf = await read_shelf(wiring.settings, wiring.topics.models)
    if gone := unused & set(shelf.unused()):
        await wiring.sender.send_many(wiring.topics.models, tombstones(sorted(gone)), partition=0)


class Trainer(Service):
    """Trains every ``train_every_s`` if the log has new files; a training under way ends with the service."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._newest: dict[int, tuple[int, int]] = {}
        self._training: asyncio.Task[tuple[TrainResult, str] | None] | None = None
        for outcome in OUTCOMES:
            wiring.metrics.count("headrace_trainings_total", outcome, by=0)
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
            try:
                newest = await asyncio.to_thread(log_files.newest, folder)
            except OSError as exc:
                log.warning("the training waits: %s", exc, extra={"action": "training_waits"})
                continue
            if self.should_stop or newest == self._newest:
                continue
            self._newest = newest
            self._training = asyncio.create_task(train_once(self._wiring))
            try:
                done = await self._training
            except Exception:
                # The present ranker stays in use, other roles of this process run on; the next file tries
                # again.
                self._wiring.metrics.count("headrace_trainings_total", "failed")
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
