"""``headrace train``: one training from the log, published."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options
from headrace.console.extras import require
from headrace.streams.errors import ConfigError

if TYPE_CHECKING:
    from headrace.streams.settings import Settings


def train(
    dask: Annotated[
        str, typer.Option(help="Train on a Dask cluster: the address of its scheduler, tcp://host:8786.")
    ] = "",
    report_to: Annotated[
        Path | None, typer.Option("--report", help="Write report.json and report.html into this folder.")
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also train without each group of features, for the report.")
    ] = False,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Train LightGBM once from the Parquet log, and make it the candidate, unless it is clearly worse.

    The log is in HEADRACE_DATA_DIR, or at HEADRACE_DATA_URL. The first model is live at once; see
    `headrace models list`. The report has figures that position cannot flatter, with intervals; it is kept
    beside the model, too.
    """
    settings = options.read_settings(brokers)
    wanted = {"report": report_to is not None, "dask": bool(dask), "mlflow": bool(settings.mlflow_uri)}
    require("worker", *(extra for extra, is_wanted in wanted.items() if is_wanted))
    from headrace.console import screen
    from headrace.models.learning.log_files import folder_of

    out = screen.console(stderr=True)
    with screen.progress(out, f"training from {folder_of(settings)}") as report:
        report(0, "")
        figures = options.run(train_and_publish(settings, report_to, dask=dask, ablation=ablation))
    options.write_json(json_path, figures)
    metrics = ", ".join(f"{k} {v:.4g}" for k, v in figures["metrics"].items())
    typer.echo(f"ranker {figures['version']} trained in {figures['seconds']:.1f} s: {metrics}")
    typer.echo(f"refused: {figures['refused']}" if figures["refused"] else "published")


async def train_and_publish(
    settings: Settings, report_to: Path | None = None, *, dask: str = "", ablation: bool = False
) -> dict[str, Any]:
    """Train and publish, on a Dask cluster if there is an address; return version, metrics and seconds.

    A report is written if there is a folder for it.

    Raises
    ------
    ConfigError
        The log holds too little.
    UnavailableError
        No broker or no Dask scheduler answers.
    """
    from aiokafka.errors import KafkaError

    from headrace.agents.stage.mlflow_mirror import mirror_once
    from headrace.agents.trainer import train_once, write_report
    from headrace.agents.wiring import Wiring
    from headrace.models.learning import cluster, gate
    from headrace.models.learning.log_files import folder_of
    from headrace.serving.store.opened import open_store
    from headrace.streams.topics.refusal import unavailable
    from headrace.streams.topics.sender import BatchSender

    if dask:
        with cluster.connected(dask):
            pass  # what is not there is told at once, in one line
    sender = BatchSender(settings)
    store = open_store(settings)
    began = time.perf_counter()
    try:
        await sender.start()
        wiring = Wiring(settings, sender, sender, store)
        done = await train_once(wiring, dask=dask, ablation=ablation)
        if settings.mlflow_uri:
            await mirror_once(wiring)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await sender.stop()
        await store.close()
    if done is None:
        raise ConfigError(
            f"the log in {folder_of(settings)} holds too little: at least {settings.train_min_rows} examples "
            f"and {settings.train_min_clicks} clicks are needed (HEADRACE_TRAIN_MIN_ROWS, "
            "HEADRACE_TRAIN_MIN_CLICKS)"
        )
    result, version = done
    refused = gate.refusal(result.metrics, settings.gate_margin)
    if report_to is not None:
        write_report(report_to, result, version, refused, wiring.clock.now_ms())
    return {
        "version": version,
        "rows": result.rows,
        "clicks": result.clicks,
        "metrics": result.metrics,
        "refused": refused,
        "seconds": round(time.perf_counter() - began, 2),
    }
