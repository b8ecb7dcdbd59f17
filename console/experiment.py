"""``headrace experiment``: try other settings on some users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options
from headrace.console.extras import require
from headrace.console.models import Reason, on_models, with_sender

if TYPE_CHECKING:
    from headrace.models.learning.pointers import Pointers
    from headrace.streams.topics.sender import BatchSender

app = typer.Typer(no_args_is_help=True, help="Try other settings on some users.")


@app.command("start")
def start(
    changes: Annotated[
        list[str],
        typer.Option(
            "--set", help="NAME=VALUE; again for more: strength=0.5, source:hot=100, candidates=300."
        ),
    ],
    share: Annotated[int, typer.Option(help="Percent of the users at first: 1, 10 or 50.")] = 1,
    reason: Reason = "",
    brokers: options.Brokers = None,
) -> None:
    """Make lists for some users by other settings, and compare what they do with all the others.

    What can be set: every number of HEADRACE_RULES, the size of a source, and candidates, fresh_hours,
    fresh_shown, tail_clicks, clicked_rest_s, shown_rest_s, shown_most. Everything else stays, and so does
    what an experiment before has made live. The process `trainer` takes the settings to more users, or
    back. See `headrace models list`, `compare`, `promote` and `rollback`, with --settings.
    """
    settings = options.read_settings(brokers)
    require("worker")
    from headrace.agents.stage.pointing import point
    from headrace.console import screen
    from headrace.console.model_pages import pointer_line
    from headrace.models.learning import tried_settings
    from headrace.models.learning.experiment import started
    from headrace.models.learning.kinds import SETTINGS
    from headrace.models.learning.registry import Registry, folder_of
    from headrace.serving.varied import parse, varied
    from headrace.streams.clock import now_ms
    from headrace.streams.topics.names import Topics

    live = options.run(on_models(settings)).shelves[SETTINGS]
    text = live.texts.get(live.pointers.live)
    wanted = (tried_settings.decode(text) if text else {}) | parse(changes)
    varied(settings, wanted)
    texts = [tried_settings.encode(each, now_ms()) for each in ({}, wanted)]
    base, version = (found for _, found in texts)
    kept = Registry(folder_of(settings, SETTINGS), SETTINGS)
    for value, found in texts:
        if found not in kept.names():
            kept.add(value, "experiment")

    def change(p: Pointers) -> Pointers:
        return started(p, live.pointers.live, (base, version), share, now_ms(), reason)

    async def write(sender: BatchSender) -> Pointers:
        published = [(found, value) for value, found in texts]
        return await point(settings, Topics(settings).models, sender, change, published, SETTINGS)

    found = options.run(with_sender(settings, write))
    typer.echo(f"settings {version}: {tried_settings.told(wanted)}")
    screen.console().print(pointer_line(found, SETTINGS))
