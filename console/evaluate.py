"""``headrace eval``: measure the recommender on recorded clicks, without a broker."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import evaluate_lists, evaluate_simulator, options
from headrace.console.extras import require

if TYPE_CHECKING:
    from headrace.serving.prequential.score import Score
    from headrace.streams.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Measure the recommender on recordings or simulated users, without a broker.",
)
app.command("ebnerd")(evaluate_lists.ebnerd)
app.command("mind")(evaluate_lists.mind)
app.command("movielens")(evaluate_lists.movielens)
app.command("simulator")(evaluate_simulator.simulator)


class Protocol(StrEnum):
    """Which clicks are scored."""

    next_click = "next-click"
    last_click = "last-click"


@app.command("globo")
def globo(
    path: Annotated[Path, typer.Argument(help="Globo click file or folder.")],
    clicks: Annotated[int | None, typer.Option(min=1, help="Only the first so many clicks.")] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="What is scored: every next click, or the last one of each session.")
    ] = Protocol.next_click,
    first: Annotated[
        int | None,
        typer.Option(
            "--score-from", min=0, help="last-click: score from this time on, ms; else from the second day."
        ),
    ] = None,
    json_path: options.JsonPath = None,
) -> None:
    """Foresee clicks of Globo's sessions: hit rate and reciprocal rank (or NDCG) at 20.

    In event time, with the code and the settings that serve and train: at every click that is not the first
    of its session ask for 20 items, score the click, then learn it; LightGBM is retrained on the way.

    With [bold]--protocol last-click[/], as in Transformers4Rec: repeats and sessions of one click are left
    out, the last click of each session is scored, and the figures are means over hours.
    """
    settings = options.read_settings(None)
    require("worker")
    if protocol is Protocol.last_click:
        last_click(path, clicks, first, json_path, settings)
        return
    from headrace.console import screen
    from headrace.serving.prequential.loop import evaluate
    from headrace.streams.messages.files import read_globo

    with screen.progress(screen.console(stderr=True), "eval globo", clicks) as report:

        def tell(seen: int, score: Score) -> None:
            report(seen, f"HR@20 {score.hit_rate:.4f}  MRR@20 {score.mrr:.4f}  trained {score.trainings}x")

        figures = evaluate(read_globo(path, clicks), settings, progress=tell)
    options.write_json(json_path, figures)
    typer.echo(
        f"{figures['predictions']:,} predictions: HR@20 {figures['hr_at_20']:.4f}, "
        f"MRR@20 {figures['mrr_at_20']:.4f}, by score alone {figures['hr_at_20_by_score']:.4f} and "
        f"{figures['mrr_at_20_by_score']:.4f}, in {figures['seconds']:.0f} s"
    )


def last_click(
    path: Path, clicks: int | None, first: int | None, json_path: Path | None, settings: Settings
) -> None:
    """Run the last-click protocol and print its figures."""
    from headrace.console import screen
    from headrace.serving.prequential.last_click import evaluate_last_clicks
    from headrace.streams.messages.files import read_globo

    with screen.progress(screen.console(stderr=True), "eval globo, last click", clicks) as report:

        def tell(seen: int, so_far: dict[str, float]) -> None:
            report(seen, f"HR@20 {so_far['hr_at_20']:.4f}  NDCG@20 {so_far['ndcg_at_20']:.4f}")

        figures = evaluate_last_clicks(read_globo(path, clicks), settings, first, progress=tell)
    options.write_json(json_path, figures)
    typer.echo(
        f"{figures['predictions']:,} predictions in {figures['hours']} hours: "
        f"HR@20 {figures['hr_at_20']:.4f}, NDCG@20 {figures['ndcg_at_20']:.4f}, by score alone "
        f"{figures['hr_at_20_by_score']:.4f} and {figures['ndcg_at_20_by_score']:.4f}, "
        f"in {figures['seconds']:.0f} s"
    )
