"""``headrace recommend``: ask the running workers for one list."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.streams.messages.schemas import AnyNone, ListRequest, RecReply, RecRequest
    from headrace.streams.settings import Settings

_NAMED = "Only items of these {}; with a ! in front: none of them."


class Surface(StrEnum):
    """Where a list is shown."""

    home = "home"
    related = "related"
    digest = "digest"


def recommend(
    user: Annotated[str, typer.Argument(help="User id.")],
    surface: Annotated[Surface, typer.Option(help="Where the list is shown.")] = Surface.home,
    n: Annotated[int, typer.Option("--n", "-n", help="Length of the list, 1 to 500.")] = 20,
    item: Annotated[str, typer.Option(help="The item that is open (needed for --surface related).")] = "",
    country: Annotated[str, typer.Option(help="Where the user is.")] = "",
    candidates: Annotated[
        list[str] | None,
        typer.Option("--candidate", help="Rank this item and the others named so, no others."),
    ] = None,
    seen: Annotated[list[str] | None, typer.Option(help="An item that is not to be shown.")] = None,
    category: Annotated[list[str] | None, typer.Option(help=_NAMED.format("categories"))] = None,
    creator: Annotated[list[str] | None, typer.Option(help=_NAMED.format("creators"))] = None,
    language: Annotated[list[str] | None, typer.Option(help=_NAMED.format("languages"))] = None,
    tag: Annotated[list[str] | None, typer.Option(help=_NAMED.format("tags"))] = None,
    published_after: Annotated[
        int | None, typer.Option(help="Only items published later, ms since 1970.")
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", help="A list of a page: SURFACE[:N[:ITEM]], such as related:5:story-1."),
    ] = None,
    at_least: Annotated[str, typer.Option(help="Token of the state that the list must have.")] = "",
    caller: Annotated[str, typer.Option(help="Who asks, for the rate of each caller.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say why each item is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for the reply.")] = 5,
    brokers: options.Brokers = None,
) -> None:
    """Ask the running workers for a user's list and print it.

    Example: [bold]headrace recommend user-42 --n 10 --explain[/]. Exit code 1: refused, or no reply in time.
    """
    settings = options.read_settings(brokers)
    from headrace.streams.messages.schemas import Context, Filters, RecRequest

    named = [_any_none(names or ()) for names in (category, creator, language, tag)]
    request = RecRequest(
        request_id=f"cli-{secrets.token_hex(6)}",
        user_id=user,
        surface=surface.value,
        n=n,
        item_id=item,
        context=Context(country=country),
        deadline_ms=min(60_000, int(timeout * 1000)),
        explain=explain,
        seen=seen or [],
        filters=Filters(named[0], named[1], named[2], named[3], published_after),
        candidates=candidates or [],
        lists=[_list(text) for text in lists or ()],
        at_least=at_least,
        caller=caller,
    )
    try:
        reply = options.run(ask(settings, request, timeout))
    except TimeoutError:
        options.complain(
            f"no reply within {timeout:g} s: is a `headrace worker serve` running on {settings.brokers}?"
        )
        raise typer.Exit(1) from None
    _show(reply, request, as_json=as_json)


def _any_none(names: Sequence[str]) -> AnyNone:
    """Return the names to have, and those with a ``!`` in front, which are not to be had."""
    from headrace.streams.messages.schemas import AnyNone

    none = [name[1:] for name in names if name.startswith("!")]
    return AnyNone([name for name in names if not name.startswith("!")], none)


def _list(text: str) -> ListRequest:
    """Return the list that ``SURFACE[:N[:ITEM]]`` asks for; ``serve`` checks the values."""
    from headrace.streams.messages.schemas import ListRequest

    surface, _, rest = text.partition(":")
    n, _, item = rest.partition(":")
    if surface not in set(Surface) or not (n.isdigit() or not rest):
        raise typer.BadParameter(f"{text!r} is not SURFACE[:N[:ITEM]]", param_hint="--list")
    return ListRequest(Surface(surface).value, int(n or 20), item)


async def ask(settings: Settings, request: RecRequest, timeout: float) -> RecReply:
    """Send one request and return its reply. Raises as ``RecClient`` does."""
    from headrace.serving.requests.client import RecClient

    async with RecClient(settings, "cli") as client:
        return await client.recommend(request, timeout)


def _show(reply: RecReply, request: RecRequest, *, as_json: bool) -> None:
    """Print the reply; a refusal ends with exit code 1."""
    import msgspec

    from headrace.console import screen
    from headrace.streams.messages.schemas import RecReply

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(reply)).decode())
    elif reply.error is None:
        out = screen.console()
        if not request.lists:
            out.print(screen.reply_table(reply, f"for {request.user_id} ({request.surface})"))
        for asked, found in zip(request.lists, reply.lists, strict=False):
            title = f"{found.request_id} for {request.user_id} ({asked.surface})"
            out.print(screen.reply_table(RecReply(found.request_id, found.items), title))
        out.print(screen.model_line(reply), style="dim", markup=False)
    if reply.error is not None:
        where = f" (field {reply.error.field})" if reply.error.field else ""
        when = f"; again in {reply.error.retry_after_ms} ms" if reply.error.retry_after_ms else ""
        options.complain(f"refused: {reply.error.code}: {reply.error.message}{where}{when}")
        raise typer.Exit(1)
