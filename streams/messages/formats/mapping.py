"""A mapping file: it turns other people's events into ours. TOML; see docs/bring-your-own-events.md.

``[only]`` and ``[ignore]`` say which events are meant, ``[event]`` where the value of each of our fields
comes from, and every ``[[example]]`` has an event of theirs and what must become of it. A file whose examples
do not come out is refused at the start.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.codec import UNDECODABLE, Decoder, rejection
from headrace.streams.messages.formats.fields import field_rule
from headrace.streams.messages.formats.finds import Find, Rules
from headrace.streams.messages.formats.paths import getter
from headrace.streams.messages.formats.published import REQUIRED
from headrace.streams.messages.formats.translated import IgnoredError
from headrace.streams.messages.schemas import Event, check_event

#: Largest file and largest event of an example, bytes.
MOST_BYTES: Final = 1024 * 1024
#: Timestamp of the record of an example that has none, ms.
EXAMPLE_MS: Final = 1_767_225_600_000
#: What an example may become besides an event.
IGNORED, REFUSED = "ignored", "refused"

_CONTEXT = "context."
_decode = msgspec.json.Decoder().decode
_check = Decoder(Event, MOST_BYTES).value


class Mapping:
    """Turns documents (decoded JSON) into events of ours.

    Parameters
    ----------
    table
        What the file says.
    plain
        As of ``paths.getter``.

    Raises
    ------
    ConfigError
        It makes no sense, or an example does not come out.
    """

    def __init__(self, table: Table[str, Any], *, plain: bool = True) -> None:
        if unknown := sorted(table.keys() - {"only", "ignore", "event", "example"}):
            raise ConfigError(f"there is no [{unknown[0]}]; there are [only], [ignore], [event], [[example]]")
        only = [_condition("only", *one, plain) for one in _table(table, "only").items()]
        ignore = [_condition("ignore", *one, plain) for one in _table(table, "ignore").items()]
        rules = {name: field_rule(name, given, plain=plain) for name, given in _fields(table).items()}
        if missing := [name for name in REQUIRED if name not in rules]:
            raise ConfigError(f"event.{missing[0]} is missing")
        fields = [rules.pop("type"), *(rule for name, rule in rules.items() if not _of_context(name))]
        context = [rule for name, rule in rules.items() if _of_context(name)]
        #: ``Rules.event``: an event of ours from a document and the timestamp of its record.
        self.event = Rules(only, ignore, fields, context).event
        examples = table.get("example")
        if type(examples) is not list or not examples:
            raise ConfigError("an [[example]] is needed: an event of theirs, and what it becomes")
        for number, example in enumerate(examples, 1):
            self._try(number, example)

    def of_json(self, body: bytes | str, timestamp: int = EXAMPLE_MS) -> dict[str, Any]:
        """Return a message as an event of ours that is valid; errors are those of ``event`` and of events."""
        try:
            doc = _decode(body)
        except UNDECODABLE as exc:
            raise rejection(exc) from exc
        out = self.event(doc, timestamp)
        event = _check(msgspec.json.encode(out))
        check_event(event, event.ts, 0, 0)
        return out

    def _try(self, number: int, example: Any) -> None:
        where = f"example {number}"
        if type(example) is not dict or not example.keys() <= {"event", "becomes", "timestamp"}:
            raise ConfigError(f"{where}: event, becomes and, if need be, timestamp (ms) are in it")
        event, expected = example.get("event"), example.get("becomes")
        timestamp = example.get("timestamp", EXAMPLE_MS)
        if type(event) is not str or expected is None or type(timestamp) is not int:
            raise ConfigError(
                f"{where}: event is JSON in a text, becomes a table, {IGNORED!r} or {REFUSED!r}"
            )
        became: Any
        why = ""
        try:
            became = self.of_json(event, timestamp)
        except IgnoredError:
            became = IGNORED
        except RejectedError as exc:
            became, why = REFUSED, f" ({exc.reason} {exc.field}: {exc.detail})"
        if became != expected:
            shown = became if type(became) is str else msgspec.json.encode(became).decode()
            raise ConfigError(f"{where} becomes {shown}{why}, not {_shown(expected)}")


def _shown(expected: Any) -> str:
    return expected if type(expected) is str else msgspec.json.encode(expected).decode()


def _of_context(name: str) -> bool:
    return name.startswith(_CONTEXT)


def _table(table: Table[str, Any], name: str) -> dict[str, Any]:
    found = table.get(name, {})
    if type(found) is not dict:
        raise ConfigError(f"[{name}] is a table")
    return found


def _fields(table: Table[str, Any]) -> dict[str, Any]:
    """Return what is said of every field; those of ``[event.context]`` have their full names."""
    event = dict(_table(table, "event"))
    context = event.pop("context", {})
    if type(context) is not dict:
        raise ConfigError("[event.context] is a table")
    return event | {_CONTEXT + name: given for name, given in context.items()}


def _condition(where: str, path: str, values: Any, plain: bool) -> tuple[Find, frozenset[Any]]:
    if type(values) is not list or not values or any(type(v) not in (str, int, bool) for v in values):
        raise ConfigError(f"[{where}] {path}: a list of texts, whole numbers, true or false is needed")
    if not path.startswith("$"):
        raise ConfigError(f"[{where}] {path}: a path begins with $")
    try:
        return getter(path, plain=plain), frozenset(values)
    except ConfigError as exc:
        raise ConfigError(f"[{where}] {exc}") from exc


def read_mapping(path: str | Path, *, plain: bool = True) -> Mapping:
    """Read a mapping file and try its examples.

    Raises
    ------
    ConfigError
        It cannot be read, is no TOML, makes no sense, or an example does not come out.
    """
    try:
        with Path(path).open("rb") as file:
            body = file.read(MOST_BYTES)
        return Mapping(tomllib.loads(body.decode()), plain=plain)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigError(f"{path} is no TOML: {exc}") from exc
    except ConfigError as exc:
        raise ConfigError(str(exc) if str(path) in str(exc) else f"{path}: {exc}") from exc
