"""What the commands share: options, settings, running a coroutine, writing figures, messages to the user."""

from __future__ import annotations

import json
import os
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headrace.streams.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from headrace.streams.settings import Settings

T = TypeVar("T")
#: Every environment variable of a setting begins with it.
PREFIX = "HEADRACE_"

Brokers = Annotated[
    str | None, typer.Option(help="Kafka brokers, host:port, comma-separated (else HEADRACE_BROKERS).")
]
Redis = Annotated[str | None, typer.Option(help="URL of the online store (else HEADRACE_REDIS_URL).")]
JsonPath = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file as JSON.", dir_okay=False)
]


def read_settings(brokers: str | None = None, redis: str | None = None) -> Settings:
    """Read the settings from the environment; ``brokers`` and ``redis`` of the command line replace them.

    Raises
    ------
    ConfigError
        A value is wrong; the message names the variable. A variable that is not a setting gives a warning.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from headrace.streams.settings import Settings

    for warning in unknown_variables(os.environ, Settings.model_fields):
        complain(warning)
    given = {k: v for k, v in (("brokers", brokers), ("redis_url", redis)) if v is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as exc:
        raise ConfigError(_wrong_value(exc)) from exc
    except SettingsError as exc:
        raise ConfigError(_not_a_list(exc)) from exc


def _wrong_value(exc: ValidationError) -> str:
    from headrace.streams.settings import Settings

    first = exc.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    said = first["msg"].removeprefix("Value error, ")
    # What is in a URL, or in a field that is not shown, may be a secret.
    shown = field and not field.endswith("_url") and Settings.model_fields[field].repr
    return f"{PREFIX}{field.upper()}: {said}" + (f" (given: {first.get('input')!r})" if shown else "")


def _not_a_list(exc: SettingsError) -> str:
    """Return the message for a list that is not JSON. Pydantic's error has the field's name in quotes."""
    name = f"{PREFIX}{(str(exc).split(chr(34))[1:2] or [''])[0].upper()}"
    return f'{name}: write a JSON list like ["a", "b*"] (given: {os.environ.get(name)!r})'


def unknown_variables(names: Iterable[str], fields: Iterable[str]) -> list[str]:
    """Warn about every HEADRACE_ variable that is not a setting: return one warning for each. Pure.

    Case does not matter. Variables of the tests are left out.
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


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own and return what it returns."""
    import asyncio
    import logging

    import uvloop

    if not logging.getLogger().handlers:  # no log: what aiokafka would say is in the one line that we say
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures as JSON to ``path``, making its folder; without a path do nothing.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"--json {path}: {exc.strerror}") from exc


def complain(message: str) -> None:
    """Write one line to standard error."""
    typer.echo(f"headrace: {' '.join(message.split())}", err=True)


def time_ms(option: str, text: str | None) -> int | None:
    """Return a time of the command line, ms; one without a zone is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: write a time as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
