"""The parts there are, and which of them an installation uses (``HEADRACE_PARTS``, ``HEADRACE_PLUGINS``)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from headrace.serving.filters.age import MinimumAge
from headrace.serving.filters.asked import Asked
from headrace.serving.filters.clicked import Clicked
from headrace.serving.filters.country import CountryRules
from headrace.serving.filters.excluded import Excluded
from headrace.serving.filters.flags import Flags
from headrace.serving.filters.hidden import Hidden
from headrace.serving.filters.language import Language
from headrace.serving.filters.published import Published
from headrace.serving.filters.same_title import SameTitle
from headrace.serving.filters.seen import Seen
from headrace.serving.filters.shown import Shown
from headrace.serving.pipeline.parts import Filter, LateFilter, Part, Rest, Scorer, Source
from headrace.serving.scorers.blend import ByBlend
from headrace.serving.scorers.online import ByOnline
from headrace.serving.scorers.ranker import ByRanker
from headrace.serving.sources.age_group import AgeGroup
from headrace.serving.sources.ann import Ann
from headrace.serving.sources.best import Best
from headrace.serving.sources.catalog import NewestOfAll
from headrace.serving.sources.country import Country
from headrace.serving.sources.country_today import CountryToday
from headrace.serving.sources.filtered import Filtered
from headrace.serving.sources.followed import Followed
from headrace.serving.sources.hot import Hot
from headrace.serving.sources.new import New
from headrace.serving.sources.next import Next
from headrace.serving.sources.popular_ever import PopularEver
from headrace.serving.sources.popular_now import PopularNow
from headrace.serving.sources.preferred import Preferred
from headrace.serving.sources.rising import Rising
from headrace.serving.sources.same_creator import SameCreator
from headrace.serving.sources.today import Today
from headrace.serving.sources.together import Together
from headrace.streams.errors import ConfigError

#: The parts of a new installation, in the order in which they run: the most useful sources first, because
#: the last ones are left out when time runs short; the cheapest filters that remove most first.
PARTS: tuple[type[Part], ...] = (
    Filtered, Next, Together, PopularNow, Best, Today, Hot, Ann, Rising, Country, CountryToday, AgeGroup,
    Followed, Preferred, SameCreator, New, PopularEver, NewestOfAll,
    Published, Asked, Excluded, Seen, Hidden, MinimumAge, Flags, Language, CountryRules,
    Shown, Clicked,
    ByRanker, ByOnline, ByBlend,
    SameTitle,
)  # fmt: skip
_KINDS = (Source, Filter, Rest, Scorer, LateFilter)
#: Bits in the mask of a candidate, without those of ``repeated`` and ``given``.
_MOST_SOURCES = 30


def label(part: type[Part]) -> str:
    """Return ``kind:name``, as in settings, counts and ``degraded``."""
    return f"{part.kind}:{part.name}"


def plugins(paths: Sequence[str]) -> list[type[Part]]:
    """Import the parts named ``module:Class``.

    Raises
    ------
    ConfigError
        When one cannot be imported, or is no part.
    """
    out: list[type[Part]] = []
    for path in paths:
        module, _, name = path.partition(":")
        try:
            found = vars(importlib.import_module(module))[name]
        except (ImportError, KeyError, ValueError) as exc:
            raise ConfigError(f"HEADRACE_PLUGINS: {path!r} cannot be imported: {exc}") from exc
        if not (isinstance(found, type) and issubclass(found, _KINDS) and hasattr(found, "name")):
            raise ConfigError(f"HEADRACE_PLUGINS: {path!r} is no part with a name")
        out.append(found)
    return out


def chosen(parts: Sequence[type[Part]], how: Mapping[str, str]) -> list[tuple[type[Part], int]]:
    """Return the parts that are on, with the size of each source (0 for other parts).

    Parameters
    ----------
    parts
        All parts, in order.
    how
        By label: ``on``, ``off``, or for a source the most items it proposes.

    Raises
    ------
    ConfigError
        When a label or a value is unknown, or two parts have the same label.
    """
    labels = [label(part) for part in parts]
    for name in sorted({name for name in labels if labels.count(name) > 1}):
        raise ConfigError(f"two parts are called {name!r}")
    if unknown := sorted(set(how) - set(labels)):
        known = ", ".join(labels)
        raise ConfigError(f"HEADRACE_PARTS: there is no part {unknown[0]!r}; the parts are {known}")
    out = []
    for name, part in zip(labels, parts, strict=True):
        value = how.get(name, "on" if part.on else "off")
        size = part.size if issubclass(part, Source) else 0
        if value.isdigit() and issubclass(part, Source):
            size = int(value)
        elif value not in {"on", "off"}:
            what = "on, off or a number" if issubclass(part, Source) else "on or off"
            raise ConfigError(f"HEADRACE_PARTS: {name}={value!r} is not {what}")
        if value != "off" and (size or not issubclass(part, Source)):
            out.append((part, size))
    if sum(issubclass(part, Source) for part, _ in out) > _MOST_SOURCES:
        raise ConfigError(f"more than {_MOST_SOURCES} sources")
    return out
