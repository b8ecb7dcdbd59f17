"""The command line: ``headrace --help``. Heavy imports are inside the commands, so that help is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headrace.console import (
    acls,
    capacity,
    conformance,
    dead_letters,
    demo,
    digest,
    evaluate,
    experiment,
    explain,
    exports,
    forget,
    imports,
    lag,
    mapping,
    models,
    options,
    producers,
    recommend,
    repartition,
    replay,
    schema,
    sources,
    topics,
    train,
    upgrade,
    verify,
    why_lag,
    worker,
)
from headrace.streams.errors import HeadraceError

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Event-driven recommender: Kafka events in, models updated live, ranked lists out.\n\n"
        "Try it: [bold]headrace demo[/]\n\n"
        "Run it: [bold]headrace topics create[/], [bold]headrace worker serve[/], "
        "[bold]headrace worker ingest,aggregate,learn,log,trainer[/]\n\n"
        "Ask it: [bold]headrace recommend user-42 --explain[/]"
    ),
    epilog=(
        "Every setting is an environment variable: HEADRACE_BROKERS (127.0.0.1:9092), HEADRACE_REDIS_URL, "
        "HEADRACE_DATA_DIR, HEADRACE_TOPIC_PREFIX and so on; they stand in streams/settings.py. "
        "Exit codes: 0 it worked, 1 it did not, 2 wrong use or no broker, 130 stopped with Ctrl-C."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Define the options of the program itself."""


#: Commands whose name in Python is another one.
_NAMES = {"map_events": "map"}

for _command in (
    demo.demo, worker.worker, replay.replay, recommend.recommend, digest.digest, lag.lag, why_lag.why_lag,
    producers.producers, sources.sources, explain.explain, forget.forget, verify.verify, train.train,
    conformance.conformance, acls.acls, upgrade.upgrade, repartition.repartition, mapping.map_events,
    schema.schema, capacity.capacity,
):  # fmt: skip
    app.command(_NAMES.get(_command.__name__))(_command)
app.add_typer(topics.app, name="topics")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(evaluate.app, name="eval")
app.add_typer(models.app, name="models")
app.add_typer(experiment.app, name="experiment")
app.add_typer(imports.app, name="import")
app.add_typer(exports.app, name="export")


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph, so that they break at the terminal's width."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


for _typer in (
    app,
    topics.app,
    dead_letters.app,
    evaluate.app,
    models.app,
    experiment.app,
    imports.app,
    exports.app,
):
    for _registered in _typer.registered_commands:
        if _registered.callback is not None and _registered.callback.__doc__:
            _registered.help = _unwrapped(_registered.callback.__doc__)


def main() -> None:
    """Run the command line; a ``HeadraceError`` becomes one line and exit code 2."""
    try:
        app()
    except HeadraceError as exc:
        options.complain(str(exc))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
