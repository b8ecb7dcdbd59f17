"""One field of ours in a mapping file: where its value comes from, and how it is converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.streams.errors import ConfigError
from headrace.streams.messages.formats.conversions import (
    UNITS,
    event_id,
    iso,
    milliseconds,
    text,
    time,
    whole,
)
from headrace.streams.messages.formats.finds import (
    RECORD_TIME,
    Call,
    Converted,
    Find,
    First,
    Joined,
    Mapped,
    Number,
    Rule,
    Time,
)
from headrace.streams.messages.formats.paths import getter
from headrace.streams.messages.formats.published import REQUIRED
from headrace.streams.messages.formats.translated import IgnoredError

#: The time of the record itself, as it is written: the value or the default of ``ts``.
RECORD: Final = "record"
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
            raise self.wrong(
                f"unit {unit!r}: {', '.join(UNITS)} are units of {' and '.join(TIMES)}, iso of ts"
            )
        self.convert = iso if unit == "iso" else milliseconds(unit)

    def wrong(self, why: str) -> ConfigError:
        return ConfigError(f"event.{self.name}: {why}")

    def getter(self, path: Any) -> Find:
        if type(path) is not str or not path.startswith("$"):
            raise self.wrong(f"{path!r} is no path: it begins with $ (a constant is {{ const = ... }})")
        try:
            return getter(path, plain=self.plain)
        except ConfigError as exc:
            raise self.wrong(str(exc)) from exc

    def getters(self, name: str) -> list[Find]:
        paths = self.given[name]
        if type(paths) is not list or not paths:
            raise self.wrong(f"{name} is a list of paths")
        return [self.getter(path) for path in paths]


def field_rule(name: str, given: Any, *, plain: bool = True) -> Rule:
    """Return the rule of a field from what the mapping file says.

    Parameters
    ----------
    name
        Its name; that of a field of the context begins with ``context.``.
    plain
        As of ``paths.getter``.

    Raises
    ------
    ConfigError
        What the file says makes no sense; the message names the field.
    """
    if name not in FIELDS:
        raise ConfigError(f"event.{name}: an event of ours has no such field: {', '.join(FIELDS)}")
    required = name in REQUIRED
    if given == RECORD and name == "ts":
        return Rule(name, Find(), RECORD_TIME, required=required)
    shape = "first" if type(given) is list else "path"
    spec = _Spec(name, given if type(given) is dict else {shape: given}, plain)
    find = _converted(spec, _mapped(spec, _source(spec)))
    default = spec.given.get("default")
    if default == RECORD and name == "ts":
        default = RECORD_TIME
    elif default is not None:
        try:
            default = spec.convert(default)
        except ValueError as exc:
            raise spec.wrong(f"default: {exc}") from exc
    return Rule(name, find, default, required=required)


def _source(spec: _Spec) -> Find:
    given = spec.given
    if "path" in given:
        return spec.getter(given["path"])
    if "const" in given:
        const = given["const"]
        return Call(lambda _: const)
    if "first" in given:
        return First(spec.getters("first"))
    separator = given.get("with", ":")
    if type(separator) is not str:
        raise spec.wrong("with is a text")
    return Joined(spec.getters("join"), separator, text)


def _mapped(spec: _Spec, find: Find) -> Find:
    if "map" not in spec.given:
        if "others" in spec.given:
            raise spec.wrong("others needs map")
        return find
    table = spec.given["map"]
    others = spec.given.get("others", "refuse" if spec.name in REQUIRED else "absent")
    if type(table) is not dict or others not in OTHERS:
        raise spec.wrong(f"map is a table, and others one of {', '.join(OTHERS)}")

    def otherwise(value: str) -> None:
        if others == "ignore":
            raise IgnoredError
        if others == "refuse":
            raise ValueError(f"{value!r:.64} is not in its map")

    return Mapped(find, table, otherwise)


def _converted(spec: _Spec, find: Find) -> Find:
    if spec.convert in (iso, time):
        return Time(find, spec.convert)
    if spec.convert is whole:
        return Number(find, 1, 1, whole)
    if "unit" in spec.given:
        return Number(find, *UNITS[spec.given["unit"]], spec.convert)
    return Converted(find, spec.convert, str if spec.convert is text else None)
