"""``headrace models``: which rankers there are, which one is in use, and changing that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options
from headrace.console.extras import require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.models.learning.pointers import Pointers
    from headrace.streams.settings import Settings
    from headrace.streams.topics.sender import BatchSender

app = typer.Typer(no_args_is_help=True, help="Show the rankers, and which one is used for whom; change it.")
Reason = Annotated[str, typer.Option(help="Why; it stands in the record and in `models list`.")]


@app.command("list")
def list_models(json_path: options.JsonPath = None, brokers: options.Brokers = None) -> None:
    """List the rankers in the registry, the newest first, and what each is used for."""
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.model_pages import model_rows, model_table, pointer_line
    from headrace.models.learning.registry import Registry, folder_of

    known = options.run(_on_models(settings))
    rows = model_rows(Registry(folder_of(settings)).versions(), known.shelf)
    options.write_json(json_path, {"pointers": _plain(known.shelf.pointers), "models": rows})
    out = screen.console()
    if rows:
        out.print(model_table(rows))
    out.print(pointer_line(known.shelf.pointers))


@app.command("show")
def show(
    version: Annotated[str, typer.Argument(help="A version of the ranker.")],
    json_path: options.JsonPath = None,
) -> None:
    """Show what is known of a ranker: metrics, checksum, and the features that matter most to it."""
    settings = options.read_settings(None)
    require("worker")
    from headrace.console import screen
    from headrace.console.model_pages import about_page
    from headrace.models.learning import ranker
    from headrace.models.learning.registry import Registry, folder_of

    found = Registry(folder_of(settings))
    about, gains = found.about(version), ranker.decode(found.record(version)).importance()
    options.write_json(json_path, {**_plain(about), "importance": gains})
    screen.console().print(about_page(about, gains))


@app.command("promote")
def promote(
    version: Annotated[
        str, typer.Argument(help="A version in the registry; without it, the candidate.")
    ] = "",
    everybody: Annotated[bool, typer.Option("--everybody", help="Live at once, for all users.")] = False,
    reason: Reason = "",
    brokers: options.Brokers = None,
) -> None:
    """Take the candidate one stage further; or make a version the candidate, or live at once.

    Serving workers use it within seconds. `trainer` goes on with the rollout from there.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.models.learning import pointers
    from headrace.models.learning.registry import Registry, folder_of
    from headrace.streams.clock import now_ms
    from headrace.streams.errors import ConfigError

    def change(p: Pointers) -> Pointers:
        now, chosen = now_ms(), version or p.candidate
        if everybody:
            if not chosen:
                raise ConfigError("there is no candidate: name a version")
            return pointers.made_live(p, chosen, now, "operator", reason)
        if not version or version == p.candidate:
            return pointers.promoted(p, now, "operator", reason)
        return pointers.offered(p, version, now, "operator")

    texts = [(version, Registry(folder_of(settings)).record(version))] if version else []
    _changed(settings, change, texts)


@app.command("rollback")
def rollback(reason: Reason = "", brokers: options.Brokers = None) -> None:
    """End the rollout of the candidate; where there is none, go back to the previous ranker.

    It needs the broker only, no other process. Serving workers follow within seconds.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.models.learning import pointers
    from headrace.streams.clock import now_ms

    _changed(settings, lambda p: pointers.rolled_back(p, now_ms(), "operator", reason), [])


@app.command("compare")
def compare(json_path: options.JsonPath = None, brokers: options.Brokers = None) -> None:
    """Compare the candidate with the live ranker: what the users of both arms did since the stage began.

    Intervals hold however often you look. Below them: what the candidate would have earned in the slots of
    the live ranker's lists. Exit code 1 while there is nothing to compare.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.model_pages import comparison, comparison_page

    known = options.run(_on_models(settings))
    if known.counts is None or not known.counts.of_stage(known.shelf.pointers):
        typer.echo(
            "there is nothing to compare: no candidate is tried, or no example of its stage is counted"
        )
        raise typer.Exit(1)
    figures = comparison(known.counts, settings.rollout_alpha)
    options.write_json(json_path, figures)
    screen.console().print(comparison_page(figures))


@app.command("drift")
def drift(
    version: Annotated[str, typer.Argument(help="A version in the registry; without it, the live one.")] = "",
    rows: Annotated[int, typer.Option(min=1000, help="So many of the newest shown slots.")] = 20_000,
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Compare the features of the newest shown slots with those that a ranker was trained on.

    The population stability index: below .1 nothing much has changed, above .25 very much. Exit code 1 while
    there is nothing to compare.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.drift_page import drift_table
    from headrace.models.learning import log_files
    from headrace.models.learning.log_watch import drift_of
    from headrace.models.learning.registry import Registry, folder_of

    version = version or options.run(_on_models(settings)).shelf.pointers.live
    found, n = drift_of(log_files.folder_of(settings), Registry(folder_of(settings)), version, rows)
    if not found:
        typer.echo("there is nothing to compare: too few slots in the log, or no distributions of the ranker")
        raise typer.Exit(1)
    options.write_json(json_path, {"version": version, "slots": n, "features": _plain(found)})
    screen.console().print(drift_table(version, n, found))


@app.command("import")
def import_model(
    path: Annotated[Path, typer.Argument(help="A text file of LightGBM.")],
    brokers: options.Brokers = None,
) -> None:
    """Bring your own LightGBM text file: it is checked, registered, and becomes the candidate.

    It must have the features of Headrace, by their names and in their order: train on the columns
    `features` of the Parquet log.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.models.learning import pointers
    from headrace.models.learning.imported import read_file
    from headrace.models.learning.registry import Registry, folder_of
    from headrace.streams.clock import now_ms

    value, version = read_file(path, now_ms())
    Registry(folder_of(settings)).add(value, "imported")
    typer.echo(f"{path} is version {version}")
    _changed(settings, lambda p: pointers.offered(p, version, now_ms(), "operator"), [(version, value)])


def _plain(struct: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(struct)


async def _on_models(settings: Settings) -> Any:
    """Read `models`: the rankers and the newest counts."""
    from aiokafka.errors import KafkaError

    from headrace.agents.rollout import Follower
    from headrace.streams.errors import UnavailableError
    from headrace.streams.topics.names import Topics
    from headrace.streams.topics.reader import read_partition

    known = Follower()
    try:
        await read_partition(settings, Topics(settings).models, 0, known.take)
    except KafkaError as exc:
        raise UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc}") from exc
    return known


def _changed(
    settings: Settings, change: Callable[[Pointers], Pointers], texts: list[tuple[str, bytes]]
) -> None:
    """Change the pointers; print what they are then."""
    from headrace.agents.stage.pointing import point
    from headrace.console import screen
    from headrace.console.model_pages import pointer_line
    from headrace.streams.topics.names import Topics

    async def write(sender: BatchSender) -> Pointers:
        return await point(settings, Topics(settings).models, sender, change, texts)

    screen.console().print(pointer_line(options.run(_with_sender(settings, write))))


async def _with_sender(settings: Settings, write: Callable[[BatchSender], Awaitable[Any]]) -> Any:
    from aiokafka.errors import KafkaError

    from headrace.streams.errors import UnavailableError
    from headrace.streams.topics.sender import BatchSender

    sender = BatchSender(settings)
    try:
        await sender.start()
        return await write(sender)
    except KafkaError as exc:
        raise UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc}") from exc
    finally:
        await sender.stop()
