"""``headrace map``: shows what a mapping file makes of other people's events, without Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.console import options
from headrace.streams.errors import ConfigError, RejectedError

#: Largest sample, bytes.
MOST_BYTES = 256 * 1024 * 1024


def map_events(
    file: Annotated[Path, typer.Argument(help="The mapping file (TOML).", dir_okay=False)],
    sample: Annotated[
        Path, typer.Argument(help="Events of theirs: one in JSON, an array, or one a line.", dir_okay=False)
    ],
    json_path: options.JsonPath = None,
) -> None:
    """Show what a mapping file makes of events: ours, ignored, or a dead letter and why.

    The file is checked first, with its own examples. Nothing is sent. Exit codes: 0: every event becomes one
    of ours or is ignored, 1: some would be dead letters, 2: the file is wrong.

    Example: [bold]headrace map ops/mappings/segment.toml events.ndjson[/]
    """
    from headrace.console.extras import require

    require("formats")
    import msgspec

    from headrace.streams.clock import now_ms
    from headrace.streams.messages.formats.mapping import read_mapping
    from headrace.streams.messages.formats.translated import IgnoredError
    from headrace.streams.messages.formats.translator import ours

    mapping, counts = read_mapping(file), {"events": 0, "ignored": 0, "dead letters": 0}
    told: list[dict[str, Any]] = []
    for number, body in enumerate(_bodies(sample), 1):
        became: dict[str, Any]
        try:
            became = {"event": _ours(body, ours) or mapping.of_json(body, now_ms())}
            counts["events"] += 1
        except IgnoredError:
            became = {"ignored": True}
            counts["ignored"] += 1
        except RejectedError as exc:
            became = {"reason": exc.reason, "field": exc.field, "detail": exc.detail}
            counts["dead letters"] += 1
        told.append(became)
        typer.echo(f"{number}: {_line(became, msgspec.json.encode)}")
    typer.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()), err=True)
    options.write_json(json_path, {**counts, "records": told})
    raise typer.Exit(1 if counts["dead letters"] else 0)


def _ours(body: bytes, ours: Any) -> dict[str, Any] | None:
    """Return an event that is ours already, checked: the mapping file is not asked about it."""
    import msgspec

    from headrace.streams.messages.codec import UNDECODABLE, Decoder
    from headrace.streams.messages.schemas import Event, check_event

    try:
        doc = msgspec.json.decode(body)
    except UNDECODABLE:
        return None
    if not ours(doc):
        return None
    event = Decoder(Event, len(body)).value(body)
    check_event(event, event.ts, 0, 0)
    found: dict[str, Any] = doc
    return found


def _line(became: dict[str, Any], encode: Any) -> str:
    if "event" in became:
        return encode(became["event"]).decode()  # type: ignore[no-any-return]
    if "ignored" in became:
        return "ignored"
    field = f" {became['field']}" if became["field"] else ""
    return f"dead letter: {became['reason']}{field}: {became['detail']}"


def _bodies(sample: Path) -> Iterator[bytes]:
    """Yield the events of a sample: one JSON object, an array of them, or one a line."""
    import msgspec

    try:
        if sample.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{sample} is larger than {MOST_BYTES // 1024**2} MB: a part of it will do")
        body = sample.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{sample} cannot be read: {exc.strerror}") from exc
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        yield from (line for line in body.splitlines() if line.strip())
        return
    yield from map(msgspec.json.encode, whole) if isinstance(whole, list) else [body]
