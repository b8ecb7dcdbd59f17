"""One field of ours in a mapping file: where its value comes from, and how it is converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.formats.conversions import (
    UNITS,
    event_id,
    iso,
    milliseconds,
    text,
    time,
    whole,
)
from headrace.streams.messages.formats.paths import Getter, getter
from headrace.streams.messages.formats.published import REQUIRED
from headrace.streams.messages.formats.translated import IgnoredError


#: The time of the record itself, as the value or the default of ``ts``: as it is written, and as it is kept.
RECORD: Final = "record"
RECORD_TIME: Final = object()
#: Names of the fields of ours -> what their values are converted with.
FIELDS: Final[dict[str, Callable[[Any], Any]]] = {
    "event_id": event_id, "type": text, "user_id": text, "item_id": text, "ts": time, "dwell_ms": whole,
    "request_id": text, "position": whole, "surface": text, "scope": text,
    "context.country": text, "context.device": text, "context.age": whole,
}  # fmt: skip
#: Fields that are times or durations: they may have a unit.
TIMES: Final = ("ts", "dwell_ms")
#: What becomes of a value that ``map`` does not have.
OTHERS: Final = ("refuse", "ignore", "absent")

_SOURCES = ("path", "first", "join", "const")
_OPTIONS = {*_SOURCES, "with", "map", "others", "unit", "default"}


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How a field of ours gets its value.

    Attributes
    ----------
    name
        Its name; that of a field of the context begins with ``context.``.
    find
        Returns the value in a document of theirs, converted; None when there is none.
    default
        The value when there is none; ``RECORD_TIME``: the time of the record.
    """

    name: str
    find: Getter
    default: Any = None


@dataclass(slots=True)
class _Spec:
    name: str
    given: Mapping[str, Any]
    plain: bool
    convert: Callable[[Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        if unknown := sorted(self.given.keys() - _OPTIONS):
            raise self.wrong(f"there is no {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}")
        if len([name for name in _SOURCES if name in self.given]) != 1:
            raise self.wrong(f"exactly one of {', '.join(_SOURCES)} is needed")
        unit = self.given.get("unit")
        self.convert = FIELDS[self.name]
        if unit is None:
            return
        if self.name not in TIMES or (unit not in UNITS and (unit != "iso" or self.name != "ts")):
            raise self.wrong(f"unit {unit!r}: {', '.join(UNITS)} are units of {' and '.join(TIMES)}, iso of ts")
        self.convert = iso if unit == "iso" else milliseconds(unit)

    def wrong(self, why: str) -> ConfigError:
        return ConfigError(f"event.{self.name}: {why}")

    def getter(self, path: Any) -> Getter:
        if type(path) is not str or not path.startswith("$"):
            raise self.wrong(f"{path!r} is no path: it begins with $ (a constant is {{ const = ... }})")
        try:
            return getter(path, plain=self.plain)
        except ConfigError as exc:
            raise self.wrong(str(exc)) from exc

    def getters(self, name: str) -> list[Getter]:
        paths = self.given[name]
        if type(paths) is not list or not paths:
            raise self.wrong(f"{name} is a list of paths")
        return [self.getter(path) for path in paths]


def field_rule(name: str, given: Any, *, plain: bool = True) -> FieldRule:
    """Return the rule of a field from what the mapping file says.

    Parameters
    ----------
    plain
        As of ``paths.getter``.

    Raises
    ------
    ConfigError
        What the file says makes no sense; the message names the field.
    """
    if name not in FIELDS:
        raise ConfigError(f"event.{name}: an event of ours has no such field: {', '.join(FIELDS)}")
    if given == RECORD and name == "ts":
        return FieldRule(name, lambda _: None, RECORD_TIME)
    shapes: dict[type, str] = {str: "path", list: "first"}
    spec = _Spec(name, given if type(given) is dict else {shapes.get(type(given), "path"): given}, plain)
    find = _converted(spec, _mapped(spec, _source(spec)))
    default = spec.given.get("default")
    if default == RECORD and name == "ts":
        default = RECORD_TIME
    elif default is not None:
        try:
            default = spec.convert(default)
        except ValueError as exc:
            raise spec.wrong(f"default: {exc}") from exc
    return FieldRule(name, find, default)


def _source(spec: _Spec) -> Getter:
    given = spec.given
    if "path" in given:
        return spec.getter(given["path"])
    if "const" in given:
        const = given["const"]
        return lambda _: const
    if "first" in given:
        return _first(spec.getters("first"))
    separator = given.get("with", ":")
    if type(separator) is not str:
        raise spec.wrong("with is a text")
    return _joined(spec.getters("join"), separator)


def _first(getters: list[Getter]) -> Getter:
    def get(doc: Any) -> Any:
        for one in getters:
            value = one(doc)
            if value is not None:
                return value
        return None

    return get


def _joined(getters: list[Getter], separator: str) -> Getter:
    def get(doc: Any) -> Any:
        parts = [one(doc) for one in getters]
        return None if None in parts else separator.join(map(text, parts))

    return get


def _mapped(spec: _Spec, find: Getter) -> Getter:
    if "map" not in spec.given:
        if "others" in spec.given:
            raise spec.wrong("others needs map")
        return find
    table = spec.given["map"]
    others = spec.given.get("others", "refuse" if spec.name in REQUIRED else "absent")
    if type(table) is not dict or others not in OTHERS:
        raise spec.wrong(f"map is a table, and others one of {', '.join(OTHERS)}")

    def get(doc: Any) -> Any:
        value = find(doc)
        if value is None:
            return None
        found = table.get(value if type(value) is str else _name(value))
        if found is not None:
            return found
        if others == "ignore":
            raise IgnoredError
        if others == "refuse":
            raise ValueError(f"{_name(value)!r:.64} is not in its map")
        return None

    return get


def _name(value: Any) -> str:
    """Return a value as it is written as a name in TOML."""
    return str(value).lower() if type(value) is bool else str(value)


def _converted(spec: _Spec, find: Getter) -> Getter:
    convert = spec.convert

    def get(doc: Any) -> Any:
        value = find(doc)
        return None if value is None else convert(value)

    def get_text(doc: Any) -> Any:
        value = find(doc)
        return value if value is None or type(value) is str else convert(value)

    return get_text if convert is text else get


def refused(name: str, why: object) -> RejectedError:
    """Return why an event of theirs cannot become one of ours."""
    return RejectedError("unmapped", name, str(why))
