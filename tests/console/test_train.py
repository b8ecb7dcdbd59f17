"""What a training needs and is not there (Dask, MLflow, the store) is said in one line."""

from __future__ import annotations

import sys

import pytest
from command_line import run_headrace

from headrace.models.learning import cluster


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "127.0.0.1:1")


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace: ")]
    return line


def test_without_dask_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run_headrace(monkeypatch, "train", "--dask", "tcp://127.0.0.1:1") == 2
    assert "pip install 'headrace[dask]' (not here: distributed)" in only_line(capsys)


def test_without_mlflow_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("HEADRACE_MLFLOW_URI", "http://127.0.0.1:1")
    for command in (["train"], ["worker", "trainer"]):
        assert run_headrace(monkeypatch, *command) == 2
        assert "pip install 'headrace[mlflow]'" in only_line(capsys)


def test_a_store_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_DATA_URL", "s3://b/p?endpoint_override=http://127.0.0.1:1&region=us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert run_headrace(monkeypatch, "sources") == 2
    assert "the store does not answer at s3://b/p/examples" in only_line(capsys)


def test_a_cluster_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 1)
    assert run_headrace(monkeypatch, "train", "--dask", "tcp://127.0.0.1:1") == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in only_line(capsys)
