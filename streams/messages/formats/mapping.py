"""A mapping file: it turns other people's events into ours. TOML; see docs/bring-your-own-events.md.

``[only]`` and ``[ignore]`` say which events are meant, ``[event]`` where the value of each of our fields comes
from, and every ``[[example]]`` has an event of theirs and what must become of it. A file whose examples do not
come out is refused at the start.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.codec import UNDECODABLE, Decoder, rejection
from headrace.streams.messages.formats.fields import (
    RECORD_TIME,
    FieldRule,
    field_rule,
    refused,
)
from headrace.streams.messages.formats.paths import Getter, getter
from headrace.streams.messages.formats.published import REQUIRED
from headrace.streams.messages.formats.translated import IgnoredError
from headrace.streams.messages.schemas import Event

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
        self._only = [_condition("only", *one, plain) for one in _table(table, "only").items()]
        self._ignore = [_condition("ignore", *one, plain) for one in _table(table, "ignore").items()]
        rules = [field_rule(name, given, plain=plain) for name, given in _fields(table).items()]
        if missing := [name for name in REQUIRED if name not in {rule.name for rule in rules}]:
            raise ConfigError(f"event.{missing[0]} is missing")
        self._type = next(rule for rule in rules if rule.name == "type")
        self._rules = [rule for rule in rules if rule is not self._type and not _of_context(rule)]
        self._context = [rule for rule in rules if _of_context(rule)]
        examples = table.get("example")
        if type(examples) is not list or not examples:
            raise ConfigError("an [[example]] is needed: an event of theirs, and what it becomes")
        for number, example in enumerate(examples, 1):
            self._try(number, example)

    def event(self, doc: Any, timestamp: int) -> dict[str, Any]:
        """Return a document as an event of ours, with the fields that it has; values are not checked further.

        Parameters
        ----------
        timestamp
            The record's own, ms.

        Raises
        ------
        IgnoredError
            It is not meant to be an event of ours.
        RejectedError
            It is, and cannot become one: ``unmapped``, with the field.
        """
        for get, values in self._only:
            if _name(get(doc)) not in values:
                raise IgnoredError
        for get, values in self._ignore:
            if _name(get(doc)) in values:
                raise IgnoredError
        out: dict[str, Any] = {}
        rule = self._type  # first: an event that is ignored needs no other field
        try:
            _put(out, rule, "type", doc, timestamp)
            for rule in self._rules:
                _put(out, rule, rule.name, doc, timestamp)
            if self._context:
                context: dict[str, Any] = {}
                for rule in self._context:
                    _put(context, rule, rule.name[len(_CONTEXT) :], doc, timestamp)
                if context:
                    out["context"] = context
        except ValueError as exc:
            raise refused(rule.name, exc) from exc
        return out

    def of_json(self, body: bytes | str, timestamp: int = EXAMPLE_MS) -> dict[str, Any]:
        """Return a message as an event of ours that is valid; errors are those of ``event`` and of events."""
        try:
            doc = _decode(body)
        except UNDECODABLE as exc:
            raise rejection(exc) from exc
        out = self.event(doc, timestamp)
        _check(msgspec.json.encode(out))
        return out

    def _try(self, number: int, example: Any) -> None:
        where = f"example {number}"
        if type(example) is not dict or not example.keys() <= {"event", "becomes", "timestamp"}:
            raise ConfigError(f"{where}: event, becomes and, if need be, timestamp (ms) are in it")
        event, expected = example.get("event"), example.get("becomes")
        timestamp = example.get("timestamp", EXAMPLE_MS)
        if type(event) is not str or expected is None or type(timestamp) is not int:
            raise ConfigError(f"{where}: event is JSON in a text, becomes a table, {IGNORED!r} or {REFUSED!r}")
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


def _put(out: dict[str, Any], rule: FieldRule, name: str, doc: Any, timestamp: int) -> None:
    value = rule.find(doc)
    if value is None:
        value = rule.default
        if value is None:
            if rule.name in REQUIRED:
                raise refused(rule.name, "there is no value at its path")
            return
        if value is RECORD_TIME:
            value = timestamp
    out[name] = value


def _of_context(rule: FieldRule) -> bool:
    return rule.name.startswith(_CONTEXT)


def _name(value: Any) -> Any:
    """Return a value as it is written in the lists of ``[only]`` and ``[ignore]``; no list has objects."""
    return value if type(value) in (str, int, bool) else None


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


def _condition(where: str, path: str, values: Any, plain: bool) -> tuple[Getter, frozenset[Any]]:
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
        body = Path(path).read_bytes()
        if len(body) > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES} bytes")
        return Mapping(tomllib.loads(body.decode()), plain=plain)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} is no TOML: {exc}") from exc
    except ConfigError as exc:
        raise ConfigError(str(exc) if str(path) in str(exc) else f"{path}: {exc}") from exc
