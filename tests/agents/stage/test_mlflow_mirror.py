"""The mirror runs in the background: MLflow that is away is counted, told once, and made up for."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from headrace.agents.stage.mlflow_mirror import MlflowMirror
from headrace.agents.wiring import Wiring
from headrace.models.learning import pointers, ranker, registry
from headrace.models.learning.registry import Registry
from headrace.models.learning.shelf import Shelf
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.settings import Settings


def failures(wiring: Wiring) -> float:
    return wiring.metrics.registry.get_sample_value("headrace_mlflow_failures_total") or 0.0


def runs_at(uri: str) -> list[Any]:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("headrace-x-ranker")
    return list(client.search_runs([found.experiment_id])) if found else []


async def test_mlflow_that_is_away_is_counted_told_once_and_made_up_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    caplog.set_level(logging.INFO, "headrace.agents.stage.mlflow_mirror")
    blocked, nobody = tmp_path / "mlruns", SimpleNamespace()
    blocked.write_text("a file is in the way")
    settings = Settings(data_dir=tmp_path / "data", topic_prefix="x-", mlflow_uri=blocked.as_uri())
    wiring = Wiring(settings, nobody, nobody, MemoryStore(), clock=ManualClock(5))  # type: ignore[arg-type]
    tail: Any = SimpleNamespace(caught_up=asyncio.Event())
    shelf, kept = Shelf(), Registry(registry.folder_of(settings))
    mirror = MlflowMirror(wiring, tail, shelf)

    value, version = ranker.encode("tree", 1, {"auc": 0.6})
    kept.add(value, "trained")
    for _ in range(3):
        await mirror.once()
    assert failures(wiring) == 3
    told = [record for record in caplog.records if "waits" in record.message]
    assert [record.__dict__["action"] for record in told] == ["mlflow_waits"]

    blocked.unlink()
    shelf.pointers = pointers.offered(shelf.pointers, version, 2, "trainer")
    await mirror.once()
    assert failures(wiring) == 3
    assert "mirrored again" in caplog.text
    (run,) = runs_at(settings.mlflow_uri)
    assert (run.data.tags["headrace.version"], run.data.tags["headrace.stage"]) == (version, "live")

    other, _ = ranker.encode("another tree", 3, {"auc": 0.7})
    kept.add(other, "trained")
    await mirror.once()
    assert len(runs_at(settings.mlflow_uri)) == 2
