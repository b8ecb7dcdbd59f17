"""The registry as runs in MLflow: what is there for people to look at. Nothing is ever read back from it.

    experiment  headrace-<topic prefix>ranker
    run         one for each version: metrics, model.txt, about.json; tags headrace.version, headrace.stage

A sync makes MLflow what the registry and the pointers are, whatever was missed while it was away.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.models.learning.pointers import Pointers, stage_name
from headrace.models.learning.registry import About, Registry
from headrace.streams.errors import UnavailableError

#: Tags of a run.
VERSION, STAGE, REFUSED = "headrace.version", "headrace.stage", "headrace.refused"
#: Metric whose history is the rollout: percent of the users that the version answers.
PERCENT = "users_percent"
#: For the client: we try again ourselves, and a stop waits for a call at most so long (s); no telemetry.
_CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def stages(pointers: Pointers) -> dict[str, tuple[str, int]]:
    """Return version -> stage and percent of the users, of those that the pointers name."""
    named = {
        pointers.previous: ("previous", 0),
        pointers.waiting: ("waiting", 0),
        **{one.version: (f"candidate, {stage_name(0)}", 0) for one in pointers.others},
        pointers.candidate: (f"candidate, {stage_name(pointers.share)}", pointers.share),
        pointers.live: ("live", 100 - (pointers.share if pointers.candidate else 0)),
    }
    return {version: stage for version, stage in named.items() if version}


class Tracking:
    """The runs of one installation in an MLflow server.

    Parameters
    ----------
    uri
        MLflow's tracking URI.
    name
        Name of the experiment; it is made when it does not exist.
    """

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self._name = uri, name
        self._client: Any = None
        self._experiment = ""
        self._runs: dict[str, tuple[str, dict[str, str]]] = {}  # version -> id of its run, tags

    def sync(
        self, kept: Registry, pointers: Pointers, now: int, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Make a run for each version that has none; tell which stage each version is at.

        Parameters
        ----------
        now
            The time, ms.
        stopping
            Whether to give up; asked before every version.

        Raises
        ------
        UnavailableError
            MLflow does not answer, or refuses; or the registry cannot be read.
        """
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)  # read when MLflow is imported
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            if self._client is None:
                self._connect()
            for about in kept.versions():
                if stopping():
                    return
                self._version(kept, about, pointers, now)
            here, at = kept.names(), stages(pointers)
            for version, (run_id, tags) in self._runs.items():
                if version not in here:  # the registry keeps the newest only
                    self._tag(run_id, tags, {STAGE: at.get(version, ("", 0))[0]})
        except (MlflowException, RequestException, OSError) as exc:
            self._client = None
            raise UnavailableError(f"MLflow at {self._uri}: {exc}") from exc

    def _connect(self) -> None:
        """Find the experiment and the runs that are complete."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(self._name)
        self._experiment = found.experiment_id if found else client.create_experiment(self._name)
        self._runs, token = {}, None
        while True:
            page = client.search_runs([self._experiment], max_results=1000, page_token=token)
            for run in page:
                tags = run.data.tags
                if VERSION in tags and run.info.status == "FINISHED":
                    self._runs[tags[VERSION]] = run.info.run_id, dict(tags)
            token = page.token
            if not token:
                break
        self._client = client

    def _version(self, kept: Registry, about: About, pointers: Pointers, now: int) -> None:
        if about.version not in self._runs:
            self._add(kept, about)
        run_id, tags = self._runs[about.version]
        stage, percent = stages(pointers).get(about.version, ("", 0))
        if stage != tags.get(STAGE, ""):
            self._client.log_metric(run_id, PERCENT, percent, timestamp=now)
            self._tag(run_id, tags, {"headrace.by": pointers.by, "headrace.reason": pointers.reason})
        self._tag(
            run_id, tags, {REFUSED: about.refused, STAGE: stage}
        )  # the stage last: it tells what is done

    def _tag(self, run_id: str, tags: dict[str, str], wanted: Mapping[str, str]) -> None:
        for name, value in wanted.items():
            if tags.get(name, "") != value:
                self._client.set_tag(run_id, name, value)
                tags[name] = value

    def _add(self, kept: Registry, about: About) -> None:
        """Make the run of a version. One that is not complete stays unfinished, and another one is made."""
        from mlflow.entities import Metric

        tags = {VERSION: about.version, "headrace.origin": about.origin, "headrace.checksum": about.checksum}
        run = self._client.create_run(
            self._experiment, start_time=about.created_ts, run_name=about.version, tags=tags
        )
        run_id = run.info.run_id
        metrics = [Metric(name, value, about.created_ts, 0) for name, value in about.metrics.items()]
        self._client.log_batch(run_id, metrics=metrics)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.txt").write_bytes(kept.model_file(about.version).read_bytes())
            (Path(folder) / "about.json").write_bytes(msgspec.json.encode(about))
            self._client.log_artifacts(run_id, folder)
        self._client.set_terminated(run_id, end_time=about.created_ts)
        self._runs[about.version] = run_id, dict(tags)
