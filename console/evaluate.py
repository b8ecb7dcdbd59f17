"""``headrace eval``: measure the recommender on recorded clicks, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options
from headrace.console.extras import require

if TYPE_CHECKING:
    from headrace.serving.prequential.score import Score

app = typer.Typer(no_args_is_help=True, help="Measure the recommender on recorded clicks, without a broker.")


@app.command("globo")
def globo(
    path: Annotated[Path, typer.Argument(help="Globo click file or folder.")],
    clicks: Annotated[int | None, typer.Option(min=1, help="Only the first so many clicks.")] = None,
    json_path: options.JsonPath = None,
) -> None:
    """Foresee every next click of Globo's sessions: hit rate and reciprocal rank at 20.

    In event time, with the code and the settings that serve and train: at every click that is not the first
    of its session ask for 20 items, score the click, then learn it; LightGBM is retrained on the way.
    """
    settings = options.read_settings(None)
    require("worker")
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
        f"MRR@20 {figures['mrr_at_20']:.4f} in {figures['seconds']:.0f} s"
    )
