"""The names of the candidate sources, and their bits in a candidate's mask."""

from __future__ import annotations

#: Bit i of a candidate's mask is set when ``SOURCES[i]`` proposed it. New sources are added at the end.
SOURCES = (
    "next", "together", "hot", "trending", "rising", "country", "new", "popular", "catalog", "repeated",
)  # fmt: skip
NEXT, TOGETHER, HOT, TRENDING, RISING, COUNTRY, NEW, POPULAR, CATALOG, REPEATED = range(len(SOURCES))


def names_in(mask: int) -> list[str]:
    """Return the names of the sources whose bits are set."""
    return [name for bit, name in enumerate(SOURCES) if mask >> bit & 1]
