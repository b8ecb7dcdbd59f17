"""The command line: ``headrace --help``. Heavy imports stand inside the commands: help comes at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Coroutine, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headrace.streams.errors import ConfigError, HeadraceError

if TYPE_CHECKING:
    from headrace.streams.settings import Settings

T = TypeVar("T")
#: Of every environment variable of ours.
PREFIX = "HEADRACE_"

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
topics_app = typer.Typer(no_args_is_help=True, help="Create or check the topics of an installation.")
eval_app = typer.Typer(
    no_args_is_help=True, help="Measure the recommender on recorded clicks, without a broker."
)
app.add_typer(topics_app, name="topics")
app.add_typer(eval_app, name="eval")


class ReplayFormat(StrEnum):
    """Files that can be replayed."""

    globo = "globo"
    jsonl = "jsonl"


class Surface(StrEnum):
    """Where a list is shown."""

    home = "home"
    related = "related"
    digest = "digest"


Brokers = Annotated[
    str | None, typer.Option(help="Kafka brokers, host:port, comma-separated (else HEADRACE_BROKERS).")
]
Redis = Annotated[str | None, typer.Option(help="URL of the online store (else HEADRACE_REDIS_URL).")]
JsonPath = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file as JSON.", dir_okay=False)
]


def _settings(brokers: str | None = None, redis: str | None = None) -> Settings:
    """Read the settings; what the command line names wins over the environment.

    Raises
    ------
    ConfigError
        A value is wrong; the message names the variable. A variable that does not exist is only warned about.
    """
    import os

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from headrace.streams.settings import Settings

    for warning in unknown_variables(os.environ, Settings.model_fields):
        _complain(warning)
    given = {k: v for k, v in (("brokers", brokers), ("redis_url", redis)) if v is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0]).upper() if first["loc"] else ""
        raise ConfigError(f"{PREFIX}{name}: {first['msg']} (given: {first.get('input')!r})") from exc
    except SettingsError as exc:  # not JSON where a list is wanted; it names the field in quotes
        name = f"{PREFIX}{(str(exc).split(chr(34))[1:2] or [''])[0].upper()}"
        raise ConfigError(
            f'{name}: write a JSON list like ["a", "b*"] (given: {os.environ.get(name)!r})'
        ) from exc


def unknown_variables(names: Iterable[str], fields: Iterable[str]) -> list[str]:
    """Return a warning for every variable that looks like a setting of ours and is none. Pure.

    Case does not matter, as it does not when settings are read. Variables of the tests are passed over.
    """
    import difflib

    known = [field.upper() for field in fields]
    out = []
    for name in sorted(name for name in names if name.upper().startswith(PREFIX)):
        short = name.upper().removeprefix(PREFIX)
        if short in known or short.startswith("TEST_"):
            continue
        near = difflib.get_close_matches(short, known, n=1)
        hint = f" (did you mean {PREFIX}{near[0]}?)" if near else ""
        out.append(f"there is no setting {name}; it is ignored{hint}")
    return out


def _run(main: Coroutine[Any, Any, T]) -> T:
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _write_json(path: Path | None, figures: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"--json {path}: {exc.strerror}") from exc


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
    """Hold the options of the program itself."""


@app.command()
def demo(
    seconds: Annotated[
        float, typer.Option(min=5, max=86_400, help="How long, from the start of the stack.")
    ] = 60,
    json_path: JsonPath = None,
    users: Annotated[int, typer.Option(min=20, max=200_000, help="Size of the simulated audience.")] = 2000,
    items: Annotated[int, typer.Option(min=100, max=200_000, help="Size of the simulated catalogue.")] = 3000,
    rate: Annotated[
        float, typer.Option(min=1, max=5000, help="Visits per second; fewer if the machine is slow.")
    ] = 40,
    seed: Annotated[int, typer.Option(help="The same seed makes the same audience and catalogue.")] = 7,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live page.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the workers' output and the Parquet log.")
    ] = False,
) -> None:
    """Run everything here for a minute: broker, store, workers, an audience.

    The audience is simulated and has hidden tastes; a control group is shown what is popular, everybody else
    what Headrace replies. Exit code 0 means that the loop really worked: LightGBM was trained from the log
    and ranked replies, and every request got its reply. Nothing keeps running afterwards.

    Example: [bold]headrace demo --seconds 120 --rate 100 --json figures.json[/]
    """
    from headrace.console import screen
    from headrace.demo.result import DemoOptions
    from headrace.demo.run import run_demo
    from headrace.demo.simulation.world import WorldSpec
    from headrace.demo.summary import show_result

    if port := _settings().web_port:
        raise ConfigError(f"HEADRACE_WEB_PORT={port}: the demo runs several roles in one process; unset it")
    world = WorldSpec(items=items, users=users, visits_per_s=rate, seed=seed)
    out = screen.console()
    result = run_demo(DemoOptions(seconds, world, plain, keep), out)
    _write_json(json_path, result.figures)
    if result.signal:
        raise typer.Exit(128 + result.signal)
    show_result(out, result)
    if result.problem:
        raise typer.Exit(1)


@app.command()
def worker(
    roles: Annotated[
        str, typer.Argument(metavar="ROLE[,ROLE]", help="ingest, aggregate, learn, log, trainer, serve")
    ],
    brokers: Brokers = None,
    redis: Redis = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run one role or several in this process until it is told to stop.

    Start it as often and on as many machines as you like; partitions are shared out. [bold]serve[/] answers
    requests and belongs in a process of its own; the others may share one.

    Example: [bold]headrace worker ingest,aggregate,learn,log,trainer[/]
    """
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        logging.getLogger().setLevel(log_level.upper())
    except ValueError as exc:
        raise ConfigError(f"--log-level {log_level}: choose DEBUG, INFO, WARNING or ERROR") from exc
    settings = _settings(brokers, redis)
    from headrace.agents.roles import ROLES, parse_roles, run_worker

    chosen = parse_roles(roles)
    _check_web_port(settings.web_port, [role for role in chosen if ROLES[role]])
    _run(run_worker(settings, chosen))


def _check_web_port(port: int, with_app: Sequence[str]) -> None:
    """Every role has an app of its own with a web server of its own: one port serves one of them."""
    if not port or not with_app:
        return
    if len(with_app) > 1:
        raise ConfigError(
            f"HEADRACE_WEB_PORT={port} needs a process with one role; this one would run "
            f"{', '.join(with_app)}: start a worker for each, with ports of their own, or unset it"
        )
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ConfigError(f"HEADRACE_WEB_PORT={port}: {exc.strerror}") from exc


@topics_app.command("create")
def topics_create(brokers: Brokers = None) -> None:
    """Create the topics that are missing; those that exist stay as they are."""
    settings = _settings(brokers)
    from headrace.streams.topics.admin import create_topics
    from headrace.streams.topics.names import Topics

    created = _run(create_topics(settings))
    for name in created:
        typer.echo(f"created {name}")
    total = len(Topics(settings).specs(settings))
    typer.echo(f"{len(created)} topics created, {total - len(created)} were there already")


@topics_app.command("check")
def topics_check(brokers: Brokers = None) -> None:
    """Say what is wrong with the topics; exit code 1 if anything is."""
    settings = _settings(brokers)
    from headrace.streams.topics.admin import check_topics

    problems = _run(check_topics(settings))
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo("all topics fit")


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(help="A file, or a folder of Globo click files; .gz is fine.")],
    kind: Annotated[
        ReplayFormat, typer.Option("--format", help="Globo's click CSV, or our events as JSON lines.")
    ],
    speed: Annotated[
        float, typer.Option(min=0, help="So many times real time; 0: as fast as the broker takes them.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many events.")] = None,
    keep_times: Annotated[
        bool, typer.Option("--keep-times", help="Do not move the recorded times to the present.")
    ] = False,
    json_path: JsonPath = None,
    brokers: Brokers = None,
) -> None:
    """Push recorded events through the real topics.

    Recorded times are moved to the present, because a broker deletes what is older than a topic keeps: at
    full speed the recording ends now, at a speed it begins now. Globo's files have no catalogue: an article
    is published to `items` when it is first clicked.

    Example, an hour a minute: [bold]headrace replay clicks.csv.gz --format globo --speed 60[/]
    """
    settings = _settings(brokers)
    from headrace.console import screen
    from headrace.demo.replay import replay as run_replay

    began = _clock()
    with screen.progress(screen.console(stderr=True), "replay", limit) as report:
        done = _run(
            run_replay(
                settings,
                path,
                kind.value,
                speed=speed,
                limit=limit,
                keep_times=keep_times,
                progress=lambda n, ts: report(
                    n, f"{n / max(1e-9, _clock() - began):,.0f} events/s, at {_when(ts)}"
                ),
            )
        )
    _write_json(json_path, done.as_dict())
    typer.echo(
        f"{done.events:,} events and {done.items:,} items in {done.seconds:.1f} s: "
        f"{done.events_per_s:,.0f} events/s"
    )


def _clock() -> float:
    import time

    return time.monotonic()


def _when(ts_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="User id.")],
    surface: Annotated[Surface, typer.Option(help="Where the list is shown.")] = Surface.home,
    n: Annotated[int, typer.Option("--n", "-n", help="Length of the list, 1 to 500.")] = 20,
    item: Annotated[str, typer.Option(help="The item that is open (needed for --surface related).")] = "",
    country: Annotated[str, typer.Option(help="Where the user is.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say why each item is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for the reply.")] = 5,
    brokers: Brokers = None,
) -> None:
    """Ask the running workers for a user's list and print it.

    Example: [bold]headrace recommend user-42 --n 10 --explain[/]. Exit code 1: refused, or no reply in time.
    """
    settings = _settings(brokers)
    import secrets

    import msgspec

    from headrace.console import screen
    from headrace.streams.messages.schemas import Context, RecReply, RecRequest

    request = RecRequest(
        request_id=f"cli-{secrets.token_hex(6)}",
        user_id=user,
        surface=surface.value,
        n=n,
        item_id=item,
        context=Context(country=country),
        deadline_ms=min(60_000, int(timeout * 1000)),
        explain=explain,
    )
    try:
        reply: RecReply = _run(_ask(settings, request, timeout))
    except TimeoutError:
        _complain(
            f"no reply within {timeout:g} s: is a `headrace worker serve` running on {settings.brokers}?"
        )
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(reply)).decode())
    elif reply.error is None:
        out = screen.console()
        out.print(screen.reply_table(reply, f"for {user} ({surface.value})"))
        out.print(screen.model_line(reply), style="dim", markup=False)
    if reply.error is not None:
        where = f" (field {reply.error.field})" if reply.error.field else ""
        _complain(f"refused: {reply.error.code}: {reply.error.message}{where}")
        raise typer.Exit(1)


async def _ask(settings: Settings, request: Any, timeout: float) -> Any:
    from headrace.serving.requests.client import RecClient

    async with RecClient(settings, "cli") as client:
        return await client.recommend(request, timeout)


@app.command()
def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a row per partition.")] = False,
    group: Annotated[str | None, typer.Option(help="Only this group or role.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="A row per partition.")] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Exit code 1 when any lag is older than this, or cannot be told."),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Show how far behind every agent is, in records and seconds.

    From the broker alone, so it works when every worker is down.

    Example, a health check: [bold]headrace lag --group serve --max-seconds 5[/]
    """
    settings = _settings(brokers)
    from headrace.console import lag_view

    code = _run(lag_view.run(settings, watch, as_json, group, partitions, max_seconds))
    raise typer.Exit(code)


@app.command()
def verify(
    json_path: JsonPath = None,
    at: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Compare windows as they stand at this time, ms; may be repeated."),
    ] = None,
    first: Annotated[int, typer.Option(min=1, max=10_000, help="Print at most so many differences.")] = 20,
    no_redis: Annotated[
        bool, typer.Option("--no-redis", help="Compare the rows in Kafka only, not those in Redis.")
    ] = False,
    brokers: Brokers = None,
    redis: Redis = None,
) -> None:
    """Compute every windowed feature anew from the raw topics and compare it with the live rows.

    A batch job that shares no code with the workers reads `events`, `impressions`, `users` and `items` whole;
    every user, item and (item, country) row in Kafka and Redis must say the same: windows, totals, decayed
    counts, last clicks, affinities. Neighbours are no windowed features and are not verified, profiles are
    not either. Nothing is written.

    Run it when the workers have caught up and nothing is being produced. Exit codes: 0 nothing differs, 1
    something does, 2 it could not be told.

    Example: [bold]headrace verify --json verify.json[/]
    """
    settings = _settings(brokers, redis)
    from headrace.console import screen

    try:
        from headrace.console.verification import page as verify_page
        from headrace.console.verification import run as job
    except ModuleNotFoundError as exc:
        if exc.name != "polars":
            raise
        raise ConfigError("verify needs Polars: pip install 'headrace[verify]'") from exc

    with screen.progress(screen.console(stderr=True), "verify") as report:
        outcome = _run(job.verify(settings, at=at or (), first=first, redis=not no_redis, report=report))
    _write_json(json_path, outcome.as_dict())
    verify_page.show(screen.console(), outcome)
    raise typer.Exit(outcome.exit_code)


@app.command()
def train(json_path: JsonPath = None, brokers: Brokers = None) -> None:
    """Train LightGBM once from the Parquet log and publish it.

    The log is in HEADRACE_DATA_DIR; serving workers take the new model up within seconds.
    """
    settings = _settings(brokers)
    from headrace.console import screen, train_view

    out = screen.console(stderr=True)
    with screen.progress(out, f"training from {settings.data_dir}") as report:
        report(0, "")
        figures = _run(train_view.run(settings))
    _write_json(json_path, figures)
    metrics = ", ".join(f"{k} {v:.4g}" for k, v in figures["metrics"].items())
    typer.echo(f"ranker {figures['version']} trained in {figures['seconds']:.1f} s and published: {metrics}")


@eval_app.command("globo")
def eval_globo(
    path: Annotated[Path, typer.Argument(help="Globo click file or folder.")],
    clicks: Annotated[int | None, typer.Option(min=1, help="Only the first so many clicks.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Foresee every next click of Globo's sessions: hit rate and reciprocal rank at 20.

    In event time, with the code that serves: at every click that is not the first of its session ask for 20
    items, score the click, then learn it; LightGBM is retrained on the way.
    """
    from headrace.console import screen
    from headrace.serving.prequential.loop import evaluate
    from headrace.serving.prequential.score import Score
    from headrace.streams.messages.files import read_globo

    with screen.progress(screen.console(stderr=True), "eval globo", clicks) as report:

        def tell(seen: int, score: Score) -> None:
            report(seen, f"HR@20 {score.hit_rate:.4f}  MRR@20 {score.mrr:.4f}  trained {score.trainings}x")

        figures = evaluate(read_globo(path, clicks), progress=tell)
    _write_json(json_path, figures)
    typer.echo(
        f"{figures['predictions']:,} predictions: HR@20 {figures['hr_at_20']:.4f}, "
        f"MRR@20 {figures['mrr_at_20']:.4f} in {figures['seconds']:.0f} s"
    )


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph: the terminal's width decides where they break, not our source's."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


for _typer in (app, topics_app, eval_app):
    for _command in _typer.registered_commands:
        if _command.callback is not None and _command.callback.__doc__:
            _command.help = _unwrapped(_command.callback.__doc__)


def _complain(message: str) -> None:
    typer.echo(f"headrace: {' '.join(message.split())}", err=True)


def main() -> None:
    """Run the command line; errors of ours become one line and exit code 2."""
    try:
        app()
    except HeadraceError as exc:
        _complain(str(exc))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
