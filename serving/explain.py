"""Why an item is shown: one or more plain sentences, from the sources that proposed it."""

from __future__ import annotations

from headrace.serving.catalog import Catalog
from headrace.serving.retriever import Pool
from headrace.serving.sources.names import (
    COUNTRY,
    HOT,
    NEW,
    NEXT,
    POPULAR,
    REPEATED,
    RISING,
    TOGETHER,
    TRENDING,
)
from headrace.serving.sources.neighbours import Anchors

_PAIRED = ((NEXT, "seq", "often opened after {}"), (TOGETHER, "co", "read together with {}"))
_PLAIN = {
    TRENDING: "popular in the last hour",
    RISING: "rising in the last minutes",
    COUNTRY: "popular in your country",
    NEW: "just published",
    POPULAR: "popular with everybody",
    REPEATED: "you opened it before",
}


def _quoted(text: str) -> str:
    return f"“{text[:60]}”"


def _strongest_anchor(key: int, anchors: Anchors, weight: str) -> int | None:
    """Return the anchor whose neighbour row has the largest ``weight`` for ``key``, None where none has."""
    best, best_weight = None, 0.0
    if anchors.rows is not None:
        for anchor, row in zip(anchors.items, anchors.rows, strict=True):
            held = float(row[weight][row["other"] == key].sum())
            if held > best_weight:
                best, best_weight = anchor, held
    return best


def why(pool: Pool, i: int, explored: bool, anchors: Anchors, catalog: Catalog, liked: set[int]) -> list[str]:
    """Return the reasons for candidate ``i``, strongest first; never empty.

    ``liked`` holds the categories the user has shown a positive taste for.
    """
    mask, key = int(pool.mask[i]), int(pool.candidates.items[i])
    category = int(pool.candidates.category[i])
    out = ["we are trying something new for you"] if explored else []
    for bit, weight, text in _PAIRED:
        anchor = _strongest_anchor(key, anchors, weight) if mask >> bit & 1 else None
        if anchor is not None:
            out.append(text.format(_quoted(catalog.title_of(anchor))))
    if category in liked:
        out.append(f"you like {catalog.name_of(category)}")
    if mask >> HOT & 1:
        out.append("similar to what you opened lately")
    out.extend(text for bit, text in _PLAIN.items() if mask >> bit & 1)
    return out or ["part of today's selection"]
