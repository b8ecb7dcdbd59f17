"""``headrace models``: which rankers and settings there are, which are in use, and changing that."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options
from headrace.console.extras import require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.models.learning.kinds import Kind
    from headrace.models.learning.pointers import Pointers
    from headrace.streams.settings import Settings
    from headrace.streams.topics.sender import BatchSender

app = typer.Typer(no_args_is_help=True, help="Show the rankers, and which one is used for whom; change it.")
OfSettings = Annotated[
    bool, typer.Option("--settings", help="Of the settings that are tried, not of rankers.")
]
Reason = Annotated[str, typer.Option(help="Why; it stands in the record and in `models list`.")]


@app.command("list")
def list_models(json_path: options.JsonPath = None, brokers: options.Brokers = None) -> None:
    """List the rankers in the registry, the newest first, and what each is used for; then the settings."""
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.model_pages import model_rows, model_table, pointer_line
    from headrace.console.settings_pages import settings_rows, settings_table
    from headrace.models.learning.kinds import SETTINGS
    from headrace.models.learning.registry import Registry, folder_of

    known = options.run(on_models(settings))
    tried = known.shelves[SETTINGS]
    rows = model_rows(Registry(folder_of(settings)).versions(), known.shelf)
    changes = settings_rows(Registry(folder_of(settings, SETTINGS), SETTINGS), tried)
    figures = {"pointers": _plain(known.shelf.pointers), "models": rows}
    options.write_json(
        json_path, figures | {"settings": {"pointers": _plain(tried.pointers), "versions": changes}}
    )
    out = screen.console()
    if rows:
        out.print(model_table(rows))
    out.print(pointer_line(known.shelf.pointers))
    if changes:
        out.print(settings_table(changes), pointer_line(tried.pointers, SETTINGS))


@app.command("show")
def show(
    version: Annotated[
        str, typer.Argument(help="A version of the ranker, or of settings; without it, every candidate.")
    ] = "",
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Show what is known of a ranker: metrics, checksum, and the features that matter most to it.

    Of settings, it shows what they change. Without a version, it shows each of the rankers that are tried
    now.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.streams.errors import ConfigError

    versions = [version] if version else options.run(on_models(settings)).shelf.pointers.candidates()
    if not versions:
        raise ConfigError("there is no candidate: name a version")
    told = [_about(settings, each) for each in versions]
    options.write_json(json_path, told[0][0] if version else {"candidates": [each for each, _ in told]})
    screen.console().print(*(page for _, page in told), sep="\n\n")


def _about(settings: Settings, version: str) -> tuple[Any, Any]:
    """Return what is known of a version: for JSON, and as a page."""
    from headrace.console.model_pages import about_page
    from headrace.models.learning import ranker, tried_settings
    from headrace.models.learning.kinds import SETTINGS
    from headrace.models.learning.registry import Registry, folder_of

    tried = Registry(folder_of(settings, SETTINGS), SETTINGS)
    if version in tried.names():
        about, changes = tried.about(version), tried_settings.decode(tried.record(version))
        return {**_plain(about), "changes": changes}, about_page(about, {}, changes)
    found = Registry(folder_of(settings))
    about, gains = found.about(version), ranker.decode(found.record(version)).importance()
    return {**_plain(about), "importance": gains}, about_page(about, gains)


@app.command("promote")
def promote(
    version: Annotated[
        str, typer.Argument(help="A version in the registry; without it, the candidate.")
    ] = "",
    everybody: Annotated[bool, typer.Option("--everybody", help="Live at once, for all users.")] = False,
    of_settings: OfSettings = False,
    reason: Reason = "",
    brokers: options.Brokers = None,
) -> None:
    """Take a candidate one stage further; or make a version a candidate, or live at once.

    Out of the shadow it may be any of the candidates; without a version it is the first. Serving workers use
    it within seconds. `trainer` goes on with the rollout from there.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.models.learning import pointers
    from headrace.models.learning.registry import Registry, folder_of
    from headrace.models.learning.rollout import most_candidates
    from headrace.streams.clock import now_ms
    from headrace.streams.errors import ConfigError

    def change(p: Pointers) -> Pointers:
        now, chosen = now_ms(), version or p.candidate
        if everybody:
            if not chosen:
                raise ConfigError("there is no candidate: name a version")
            return pointers.made_live(p, chosen, now, "operator", reason)
        if not version or version in p.candidates():
            return pointers.promoted(p, now, "operator", reason, version)
        return pointers.offered(p, version, now, "operator", most=most_candidates(settings, kind))

    kind = _kind(of_settings=of_settings)
    texts = [(version, Registry(folder_of(settings, kind), kind).record(version))] if version else []
    _changed(settings, change, texts, kind)


@app.command("rollback")
def rollback(
    version: Annotated[
        str, typer.Argument(help="One of the candidates; without it, the one that goes further.")
    ] = "",
    of_settings: OfSettings = False,
    reason: Reason = "",
    brokers: options.Brokers = None,
) -> None:
    """End the rollout of a candidate; where there is none, go back to the previous ranker, or settings.

    Candidates that are left begin in the shadow again. It needs the broker only, no other process. Serving
    workers follow within seconds.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.models.learning import pointers
    from headrace.streams.clock import now_ms

    kind = _kind(of_settings=of_settings)
    _changed(settings, lambda p: pointers.rolled_back(p, now_ms(), "operator", reason, version), [], kind)


@app.command("compare")
def compare(
    of_settings: OfSettings = False, json_path: options.JsonPath = None, brokers: options.Brokers = None
) -> None:
    """Compare the candidate with the live ranker: what the users of both arms did since the stage began.

    Intervals hold however often you look. Below them: what each candidate would have earned in the slots of
    the live ranker's lists. Exit code 1 while there is nothing to compare.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.model_pages import comparison, comparison_page
    from headrace.models.learning.rollout import Rules

    known, kind = options.run(on_models(settings)), _kind(of_settings=of_settings)
    counts, pointed = known.counts.get(kind), known.shelves[kind].pointers
    if counts is None or not counts.of_stage(pointed):
        typer.echo(
            "there is nothing to compare: no candidate is tried, or no example of its stage is counted"
        )
        raise typer.Exit(1)
    figures = comparison(counts, Rules.of(settings, kind).alpha, pointed.candidates())
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

    version = version or options.run(on_models(settings)).shelf.pointers.live
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
    """Bring your own LightGBM text file: it is checked, registered, and becomes a candidate.

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
    most = settings.rollout_candidates
    offer = partial(pointers.offered, version=version, now=now_ms(), by="operator", most=most)
    _changed(settings, offer, [(version, value)], _kind(of_settings=False))


def _plain(struct: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(struct)


def _kind(*, of_settings: bool) -> Kind:
    from headrace.models.learning.kinds import RANKER, SETTINGS

    return SETTINGS if of_settings else RANKER


async def on_models(settings: Settings) -> Any:
    """Read `models`: the rankers, the settings, and the newest counts."""
    from aiokafka.errors import KafkaError

    from headrace.agents.rollout import Follower
    from headrace.streams.topics.names import Topics
    from headrace.streams.topics.reader import read_partition
    from headrace.streams.topics.refusal import unavailable

    known = Follower()
    try:
        await read_partition(settings, Topics(settings).models, 0, known.take)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    return known


def _changed(
    settings: Settings,
    change: Callable[[Pointers], Pointers],
    texts: list[tuple[str, bytes]],
    kind: Kind,
) -> None:
    """Change the pointers; print what they are then."""
    from headrace.agents.stage.pointing import point
    from headrace.console import screen
    from headrace.console.model_pages import pointer_line
    from headrace.streams.topics.names import Topics

    async def write(sender: BatchSender) -> Pointers:
        return await point(settings, Topics(settings).models, sender, change, texts, kind)

    screen.console().print(pointer_line(options.run(with_sender(settings, write)), kind))


async def with_sender(settings: Settings, write: Callable[[BatchSender], Awaitable[Any]]) -> Any:
    """Return what ``write`` returns, given a sender."""
    from aiokafka.errors import KafkaError

    from headrace.streams.topics.refusal import unavailable
    from headrace.streams.topics.sender import BatchSender

    sender = BatchSender(settings)
    try:
        await sender.start()
        return await write(sender)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await sender.stop()
