"""``headrace eval ebnerd``, ``eval mind``, ``eval movielens``: other recordings than Globo's clicks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.console import options
from headrace.console.extras import require

if TYPE_CHECKING:
    from headrace.serving.prequential.given import Recording
    from headrace.serving.prequential.given_figures import Comparison
    from headrace.serving.prequential.movielens import Hits

Lists = Annotated[int | None, typer.Option(min=1, help="Only the first so many lists, by time.")]
#: Names of figures, as people write them.
LABELS = {"auc": "AUC", "mrr": "MRR", "ndcg_at_5": "NDCG@5", "ndcg_at_10": "NDCG@10"}
LABELS |= {"hr_at_20": "HR@20", "ndcg_at_20": "NDCG@20"}


def ebnerd(
    path: Annotated[Path, typer.Argument(help="Folder with behaviors.parquet and history.parquet.")],
    lists: Lists = None,
    json_path: options.JsonPath = None,
) -> None:
    """Order the lists that EB-NeRD's readers were shown: AUC, MRR, NDCG, beside popularity.

    In event time, with the code and the settings that serve and train: every list is scored with what was
    known strictly before it, then its clicks are learnt. 95 % intervals by bootstrap over lists.
    """
    require("worker")
    from headrace.serving.prequential.ebnerd import read_ebnerd

    _order("eval ebnerd", read_ebnerd(path, lists), json_path)


def mind(
    path: Annotated[Path, typer.Argument(help="Folder with behaviors.tsv and news.tsv, plain or gzipped.")],
    lists: Lists = None,
    json_path: options.JsonPath = None,
) -> None:
    """Order the lists that MIND's readers were shown: AUC, MRR, NDCG, beside popularity.

    As [bold]eval ebnerd[/]. A reader's history has no times: it is applied with their first list.
    """
    require("worker")
    from headrace.serving.prequential.mind import read_mind

    _order("eval mind", read_mind(path, lists), json_path)


def _order(name: str, recording: Recording, json_path: Path | None) -> None:
    from headrace.console import screen
    from headrace.serving.prequential.given import OURS, evaluate_lists, verdict

    settings = options.read_settings(None)
    with screen.progress(screen.console(stderr=True), name, len(recording.lists)) as report:

        def tell(seen: int, found: Comparison) -> None:
            report(seen, f"AUC {found.mean(OURS, 'auc'):.4f}  NDCG@10 {found.mean(OURS, 'ndcg_at_10'):.4f}")

        figures = evaluate_lists(recording, settings, progress=tell)
    options.write_json(json_path, figures)
    screen.console().print(_table(figures["methods"]))
    typer.echo(
        f"{figures['scored']:,} lists, {figures['items_shown']:,} items, trained {figures['trainings']}x, "
        f"{figures['seconds']:.0f} s. {OURS} is {verdict(figures)}."
    )


def movielens(
    path: Annotated[Path, typer.Argument(help="Folder with ml-100k.inter and ml-100k.item, or with .gz.")],
    every: Annotated[int, typer.Option(min=1, help="Ask for a list at every so many likes.")] = 10,
    json_path: options.JsonPath = None,
) -> None:
    """Foresee the films that MovieLens' users rate 4 or 5: HR@20 and NDCG@20, beside item-kNN.

    In event time, with the code and the settings that serve and train: before a like, make a list of 20
    films that the user has not rated; then learn it. Genres are tags.
    """
    require("worker")
    from headrace.console import screen
    from headrace.serving.prequential.movielens import OURS, evaluate_films, read_movielens

    settings, data = options.read_settings(None), read_movielens(path)
    with screen.progress(screen.console(stderr=True), "eval movielens", len(data.ratings)) as report:

        def tell(seen: int, hits: Hits) -> None:
            report(seen, f"HR@20 {hits.figures().get(OURS, {}).get('hr_at_20', 0.0):.4f}")

        figures = evaluate_films(data, settings, every, progress=tell)
    options.write_json(json_path, figures)
    screen.console().print(_table(figures["methods"]))
    typer.echo(
        f"{figures['predictions']:,} predictions, trained {figures['trainings']}x, "
        f"{figures['seconds']:.0f} s."
    )


def _table(methods: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the figures of each method as a table; with intervals, where they have some."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("order")
    first = next(iter(methods.values()))
    for name in first:
        table.add_column(LABELS[name], justify="right", no_wrap=True)
    for method, figures in methods.items():
        table.add_row(method, *map(_cell, figures.values()))
    return table


def _cell(figure: Mapping[str, float] | float) -> str:
    if isinstance(figure, float):
        return f"{figure:.4f}"
    return f"{figure['mean']:.3f} ({figure['low']:.3f}-{figure['high']:.3f})"
