"""``headrace eval simulator``: the demo's audience and the pipeline in simulated time, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options
from headrace.console.extras import require
from headrace.streams.errors import ConfigError

if TYPE_CHECKING:
    from headrace.demo.accelerated.run import Run
    from headrace.streams.settings import Settings

PICTURE, FIGURES = "simulator.png", "simulator.json"


def simulator(
    minutes: Annotated[float, typer.Option(min=0.1, max=1440, help="Simulated time.")] = 7,
    seed: Annotated[int, typer.Option(help="The same seed makes the same run.")] = 7,
    users: Annotated[int, typer.Option(min=20, max=200_000, help="Size of the audience.")] = 2000,
    items: Annotated[int, typer.Option(min=100, max=200_000, help="Size of the catalogue.")] = 3000,
    rate: Annotated[float, typer.Option(min=1, max=5000, help="Visits per second.")] = 40,
    off: Annotated[
        str, typer.Option(help="What is off: learning, or some of online,leaves,retraining,towers.")
    ] = "",
    compare_off: Annotated[
        bool, typer.Option("--compare-off", help="Run a second time, with all learning off.")
    ] = False,
    shift_at: Annotated[
        float, typer.Option(min=0, help="All tastes move so long after the start, s; 0: never.")
    ] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Tell what lists lose, and where.")] = False,
    report: Annotated[
        Path | None, typer.Option(help=f"Folder for {PICTURE} and {FIGURES}.", file_okay=False)
    ] = None,
    json_path: options.JsonPath = None,
) -> None:
    """Let the demo's audience visit in simulated time: click rate, share of the best possible, over time.

    The same hidden tastes, features, lists, learners and trainer as in [bold]headrace demo[/], with its
    settings, but in one process, without a broker, and as fast as the CPU allows. The same seed gives the
    same figures. With learning off, the first ranker stays as it was trained; features are up to date.

    Example: [bold]headrace eval simulator --shift-at 240 --compare-off --report out[/]
    """
    settings = options.read_settings(None)
    require("worker", *(["report"] if report else []))
    from headrace.demo.accelerated.installation import LEARNING, parts_off
    from headrace.demo.accelerated.run import Run
    from headrace.demo.simulation.world import WorldSpec
    from headrace.demo.stack import DEMO_SETTINGS

    given = settings.model_fields_set  # a variable of the environment counts more than what the demo sets
    settings = settings.model_copy(update={k: v for k, v in DEMO_SETTINGS.items() if k not in given})
    world = WorldSpec(items=items, users=users, visits_per_s=rate, seed=seed, shift_at_s=shift_at)
    wanted = parts_off([name.strip() for name in off.split(",") if name.strip()])
    runs = {"learning on": Run(minutes, world, wanted, explain=explain)}
    if compare_off:
        runs["learning off"] = Run(minutes, world, parts_off([LEARNING]), explain=explain)
    found = {name: _run(name, settings, run) for name, run in runs.items()}
    figures = found["learning on"] | ({"learning_off": found["learning off"]} if compare_off else {})
    options.write_json(json_path, figures)
    _show(found)
    if report is not None:
        _write(report, found, figures, shift_at)


def _run(name: str, settings: Settings, run: Run) -> dict[str, Any]:
    from headrace.console import screen
    from headrace.demo.accelerated.run import simulate

    whole = int(60 * run.minutes)
    with screen.progress(screen.console(stderr=True), f"simulator, {name}", whole) as tell:

        def progress(seconds: float, tally: Any) -> None:
            ours, popular = tally.rate(False), tally.rate(True)
            tell(int(seconds), f"click rate {ours:.1%}, popular list {popular:.1%}")

        return simulate(settings, run, progress)


def _show(found: dict[str, dict[str, Any]]) -> None:
    from headrace.console import screen
    from headrace.demo.accelerated.tables import lines, losses

    out = screen.console()
    out.print(lines(found))
    for name, figures in found.items():
        if figures["explain"]:
            out.print(f"What lists lose, in % of the best possible clicks ({name})")
            out.print(losses(figures["explain"]))


def _write(folder: Path, found: dict[str, dict[str, Any]], figures: dict[str, Any], shift_s: float) -> None:
    from headrace.demo.accelerated.chart import draw

    options.write_json(folder / FIGURES, figures)
    try:
        draw({name: one["over_time"] for name, one in found.items()}, folder / PICTURE, shift_s)
    except OSError as exc:
        raise ConfigError(f"--report {folder}: {exc.strerror}") from exc
    typer.echo(f"written: {folder / PICTURE}, {folder / FIGURES}")
