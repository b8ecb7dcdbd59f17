"""Which settings may differ from user to user, and the policy with some of them changed. Pure.

Those are read anew for every list: numbers of the re-rank stage, sizes of sources, and a few more. What is
decided when a process starts (parts, indexes, topics) is the same for all users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from pydantic import ValidationError

from headrace.serving.pipeline.build import PARTS, chosen, label, plugins
from headrace.serving.pipeline.parts import Source
from headrace.serving.policy import Policy
from headrace.serving.rerank.rules import Rules
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

#: Settings that may differ, by their names in ``Settings``.
NAMES: Final = (
    "candidates", "fresh_hours", "fresh_shown", "tail_clicks", "clicked_rest_s", "shown_rest_s", "shown_most"
)  # fmt: skip
#: Rules of the re-rank stage: all of them.
RULES: Final = tuple(f.name for f in fields(Rules))
#: Most items that a source may propose.
MOST: Final = 5000
_PREFIX, _SOURCE = "HEADRACE_", "source:"


def parse(words: Iterable[str]) -> dict[str, str]:
    """Return the changes in words such as ``strength=0.5``, ``source:hot=100``, ``HEADRACE_CANDIDATES=300``.

    ``HEADRACE_RULES=strength=0.5,epsilon=0.05`` and ``HEADRACE_PARTS=source:hot=100`` are read, too.

    Raises
    ------
    ConfigError
        A word has no value.
    """
    changes: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if name in (f"{_PREFIX}RULES", f"{_PREFIX}PARTS"):
            changes |= parse(value.split(","))
            continue
        if not (name and equals and value):
            raise ConfigError(f"{word!r}: write NAME=VALUE")
        changes[name.removeprefix(_PREFIX).lower() if name.startswith(_PREFIX) else name] = value
    return changes


def varied(settings: Settings, changes: Mapping[str, str]) -> Policy:
    """Return the policy of the installation's settings with some changed.

    Raises
    ------
    ConfigError
        A name is none of a setting that may differ from user to user, or a value does not fit.
    """
    rules = {name: text for name, text in changes.items() if name in RULES}
    plain = {name: text for name, text in changes.items() if name in NAMES}
    sizes = _sizes(settings, {n: text for n, text in changes.items() if n.startswith(_SOURCE)})
    if unknown := sorted(changes.keys() - rules.keys() - plain.keys() - {_SOURCE + name for name in sizes}):
        known = ", ".join([*NAMES, *RULES, f"{_SOURCE}NAME"])
        raise ConfigError(f"{unknown[0]!r} cannot differ from user to user; what can: {known}")
    told: dict[str, Any] = settings.model_dump()
    try:
        changed = Settings(**(told | plain | {"rules": told["rules"] | rules}))
    except ValidationError as exc:
        one = exc.errors()[0]
        name = ".".join(map(str, one["loc"]))
        raise ConfigError(f"{name}={one['input']!r} is no value for it: {one['msg']}") from exc
    return replace(Policy.of(changed), sizes=sizes)


def _sizes(settings: Settings, changes: Mapping[str, str]) -> dict[str, int]:
    """Return the sizes of sources, by name; 0 is off."""
    parts = chosen([*PARTS, *plugins(settings.plugins)], settings.parts)
    on = {label(part): part.name for part, _ in parts if issubclass(part, Source)}
    out = {}
    for name, text in changes.items():
        if name not in on:
            raise ConfigError(
                f"{name!r} is no source of this installation, or it is off; on: {', '.join(on)}"
            )
        if text != "off" and not (text.isdecimal() and int(text) <= MOST):
            raise ConfigError(f"{name}={text!r}: write off, or a number up to {MOST}")
        out[on[name]] = 0 if text == "off" else int(text)
    return out
