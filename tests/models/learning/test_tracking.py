"""The mirror in MLflow: what the registry and the pointers are, in whatever order they came to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.models.learning import pointers, ranker
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.registry import Registry
from headrace.models.learning.tracking import PERCENT, REFUSED, STAGE, VERSION, Tracking
from headrace.streams.errors import UnavailableError

NAME = "headrace-ranker"


@pytest.fixture(autouse=True)
def files_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's store in a folder is the one that its small client has, and must be asked for."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def runs_at(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(NAME)
    return list(client.search_runs([found.experiment_id])) if found else []


def stages_at(uri: str) -> dict[str, str]:
    return {run.data.tags[VERSION]: run.data.tags.get(STAGE, "") for run in runs_at(uri)}


def add(kept: Registry, trained: Ranker, n: int, refused: str = "") -> str:
    value, version = ranker.encode(f"{trained.text}\n{n}", 1000 + n, {"auc": 0.5 + n / 10})
    kept.add(value, "trained", refused)
    return version


def test_a_version_is_a_run_with_metrics_and_files(tmp_path: Path, trained: Ranker) -> None:
    kept, uri = Registry(tmp_path / "r"), (tmp_path / "mlruns").as_uri()
    version, worse = add(kept, trained, 1), add(kept, trained, 2, refused="too bad")
    tracking = Tracking(uri, NAME)
    for again in (tracking, tracking, Tracking(uri, NAME)):
        again.sync(kept, Pointers(), 5000)
    runs = {run.data.tags[VERSION]: run for run in runs_at(uri)}
    assert set(runs) == {version, worse}
    assert len(runs_at(uri)) == 2, "a second sync, also of another process, makes none again"
    run = runs[version]
    assert (run.data.metrics, run.info.start_time, run.info.run_name) == ({"auc": 0.6}, 1001, version)
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(run_id=run.info.run_id, tracking_uri=uri))
    assert (folder / "model.txt").read_bytes() == kept.model_file(version).read_bytes()
    assert version in (folder / "about.json").read_text()
    assert runs[worse].data.tags[REFUSED] == "too bad"


def test_promotion_and_rollback_are_told(tmp_path: Path, trained: Ranker) -> None:
    from mlflow import MlflowClient

    kept, uri = Registry(tmp_path / "r"), (tmp_path / "mlruns").as_uri()
    first, second = add(kept, trained, 1), add(kept, trained, 2)
    tracking, at = Tracking(uri, NAME), pointers.offered(Pointers(), first, 1, "trainer")
    at = pointers.offered(at, second, 2, "trainer")
    tracking.sync(kept, at, 10)
    assert stages_at(uri) == {first: "live", second: "candidate, shadow"}
    for now in (20, 30):
        at = pointers.promoted(at, now, "rollout", "surely not worse")
        tracking.sync(kept, at, now)
    assert stages_at(uri) == {first: "live", second: "candidate, 10 %"}
    kept.note(second, "taken back: worse")
    at = pointers.rolled_back(at, 40, "rollout", "worse")
    Tracking(uri, NAME).sync(kept, at, 40)
    assert stages_at(uri) == {first: "live", second: ""}
    (run,) = (run for run in runs_at(uri) if run.data.tags[VERSION] == second)
    tags = run.data.tags
    assert (tags[REFUSED], tags["headrace.reason"], tags["headrace.by"]) == (
        "taken back: worse", "worse", "rollout",
    )  # fmt: skip
    kept.prune(0, {first})
    Tracking(uri, NAME).sync(kept, pointers.made_live(at, "f" * 12, 50, "operator", ""), 50)
    assert stages_at(uri)[first] == "previous"
    history = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, PERCENT)
    assert [(m.timestamp, m.value) for m in sorted(history, key=lambda m: m.timestamp)] == [
        (10, 0), (20, 1), (30, 10), (40, 0),
    ]  # fmt: skip


def test_a_run_that_was_not_finished_is_made_again(tmp_path: Path, trained: Ranker) -> None:
    kept, uri = Registry(tmp_path / "r"), (tmp_path / "mlruns").as_uri()
    version = add(kept, trained, 1)
    body = kept.model_file(version)
    text = body.read_bytes()
    body.unlink()
    tracking = Tracking(uri, NAME)
    with pytest.raises(UnavailableError, match=r"model\.txt"):
        tracking.sync(kept, Pointers(), 1)
    assert [run.info.status for run in runs_at(uri)] == ["RUNNING"]
    body.write_bytes(text)
    tracking.sync(kept, Pointers(), 1)
    assert sorted(run.info.status for run in runs_at(uri)) == ["FINISHED", "RUNNING"]


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"MLflow at http://127\.0\.0\.1:1:"):
        Tracking("http://127.0.0.1:1", NAME).sync(Registry(tmp_path), Pointers(), 1)
