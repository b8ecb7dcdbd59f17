"""``headrace explain``: make a past reply again from what was logged of it; say what each part did."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require


def explain(
    request_id: Annotated[
        str, typer.Argument(help="Id of the request; or of one list of a page, such as r/2.")
    ],
    model: Annotated[
        str, typer.Option(help="A version of the ranker: what would it have changed? See `models list`.")
    ] = "",
    json_path: options.JsonPath = None,
    brokers: options.Brokers = None,
) -> None:
    """Make a past reply again from logged inputs, to the same bytes, and say what each part did to it.

    Sources, filters, features, the score of each objective, moves by the rules, exploration, reasons. It is
    kept for the share HEADRACE_TRACE_SHARE of the requests, for HEADRACE_TRACE_HOURS. Nothing is written.

    Exit codes: 0: the bytes are the same, 1: they are not, 2: there is no trace of it, or no broker.

    Example: [bold]headrace explain cli-1f00aa22bb33 --model 0123456789ab[/]
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.console import screen
    from headrace.console.explained import job, page

    figures = options.run(job.explain(settings, request_id, model))
    options.write_json(json_path, figures)
    page.show(screen.console(), figures)
    raise typer.Exit(0 if figures["same"] else 1)
