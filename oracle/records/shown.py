"""Reading records of `impressions`, and of `examples`: what was shown, and the outcome of each slot."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import polars as pl

from headrace.oracle.records.columns import columns_of
from headrace.oracle.records.documents import (
    RefusedError,
    array,
    boolean,
    number,
    parse_document,
    read_document,
    string,
    struct,
)
from headrace.oracle.records.frames import EXAMPLES, OUTCOMES, SHOWN, digest, key_of
from headrace.oracle.times import DAY_MS, MAX_TS, MIN_TS

_text, _millis = string(), number(MIN_TS, MAX_TS)
_real = number(-math.inf, math.inf, (int, float))
_place: dict[str, Any] = {
    "request_id": _text,
    "user_id": _text,
    "surface": _text,
    "ts": _millis,
    "country": _text,
    "device": _text,
    "ranker": _text,
    "spec": _text,
    "features": _text,
}
_counted = struct(
    {"user_id": string(1, 64), "ts": _millis, "country": _text, "item_ids": array(string(1, 64), 512)},
    {"age_group": number(0, 7)},
)
_of_list = struct({"ranker": _text, "match": array(boolean, 500), "value": array(_real, 10**9)}, {})
_of_slot = struct({"ranker": _text, "match": boolean, "value": _real}, {})
_durations = array(number(0, MAX_TS), 500)
_unshown = struct(
    {
        "item_ids": array(_text, 500),
        "probabilities": array(number(math.ulp(0), 1, (int, float)), 500),
        "scores": array(_real, 500),
        "features": _text,
    },
    {"durations": _durations},
)
_joined = struct(
    {
        **_place,
        "online": _text,
        "item_ids": array(_text, 500),
        "propensities": array(_real, 500),
        "explored": array(boolean, 500),
        "scores": array(_real, 500),
    },
    {
        "sources": array(array(_text, 500), 500),
        "shadow": _of_list,
        "unshown": _unshown,
        "durations": _durations,
        "leaves": _text,
        "settings": _text,
        "age_group": number(0, 7),
    },
)
_example = struct(
    {
        **_place,
        "item_id": _text,
        "position": number(0, 10_000),
        "propensity": _real,
        "explored": boolean,
        "score": _real,
        "clicked": boolean,
        "dwell_ms": number(0, DAY_MS),
        "liked": boolean,
        "hidden": boolean,
    },
    {
        "sources": array(_text, 500),
        "shadow": _of_slot,
        "unshown": boolean,
        "duration_ms": number(0, MAX_TS),
        "leaves": _text,
        "settings": _text,
        "label": _text,
    },
)


def read_shown(raw: pl.DataFrame, *, max_bytes: int, spec: str = "", width: int = 0) -> pl.DataFrame:
    """Return records of `impressions` as ``SHOWN``, a row for every row of ``raw``.

    The verdict is about counting the slots. An impression is joined with events when it was made for the
    feature list ``spec`` with ``width`` features, and its arrays have an entry for each slot.
    """

    def read(_key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        document = parse_document(value, max_bytes)
        i = _counted(document)
        user, country, items = i["user_id"], i["country"], i["item_ids"]
        place = key_of(country), country, list(map(key_of, items)), items, i.get("age_group", 0)
        return key_of(user), user, i["ts"], *place, *_join(document, spec, width)

    return columns_of(raw, SHOWN, read)


def _join(document: Any, spec: str, width: int) -> tuple[Any, ...]:
    """Return the columns of ``SHOWN`` after ``item_ids``."""
    try:
        i = _joined(document)
        features = _floats(i["features"])
        sample = i.get("unshown") or {"item_ids": [], "probabilities": [], "scores": [], "features": ""}
        more = _floats(sample["features"])
    except RefusedError:
        return (None,) * 7
    n, m, online = len(i["item_ids"]), len(sample["item_ids"]), i["online"]
    fits = i["spec"] == spec and len(features) == 4 * n * width and len(more) == 4 * m * width
    fits &= n == len(i["propensities"]) == len(i["explored"]) == len(i["scores"])
    if not fits or not m == len(sample["probabilities"]) == len(sample["scores"]):
        return online, None, None, None, None, None, None
    rows = features + more
    digests = [digest(rows[4 * width * k : 4 * width * (k + 1)]) for k in range(n + m)]
    sources, took, more_took = i.get("sources", []), i.get("durations", []), sample.get("durations", [])
    told = enumerate(zip(i["explored"], i["scores"], strict=True))
    shadow = i.get("shadow")
    rest = [
        _rest(i, *slot, _at(sources, k, []), _at(took, k, 0), shadow=_in_slot(shadow, k)) for k, slot in told
    ]
    rest += [
        _rest(i, False, score, [], _at(more_took, k, 0), unshown=True)
        for k, score in enumerate(sample["scores"])
    ]
    likely = i["propensities"] + sample["probabilities"]
    left_out = list(map(key_of, sample["item_ids"]))
    return online, key_of(i["request_id"]), left_out, likely, digests, rest, key_of(i["surface"])


def read_examples(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Return records of `examples` as ``EXAMPLES``, a row for every row of ``raw``."""

    def read(_key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        e = read_document(value, max_bytes, _example)
        user = e["user_id"]
        return (
            *(key_of(user), user, key_of(e["request_id"]), e["ts"], e["position"], key_of(e["item_id"])),
            *(
                e["propensity"],
                digest(_floats(e["features"])),
                _rest(
                    *(e, e["explored"], e["score"], e.get("sources", []), e.get("duration_ms", 0)),
                    unshown=e.get("unshown", False),
                    shadow=_shadow(e.get("shadow")),
                ),
            ),
            *(e["clicked"], e["dwell_ms"], e["liked"], e["hidden"], e.get("label")),
        )

    return columns_of(raw, EXAMPLES, read)


def read_outcomes(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Return records of `examples` as ``OUTCOMES``, a row for every row of ``raw``."""

    def read(_key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        e = read_document(value, max_bytes, _example)
        _floats(e["features"])
        made_by = e["ranker"], e.get("settings", "")
        outcome = key_of(e["user_id"]), e["ts"], *made_by, e["spec"], e["clicked"], e["dwell_ms"]
        shadow = _shadow(e.get("shadow")) or (None, None, None)
        return *outcome, float(e["propensity"]), float(e["score"]), *shadow

    return columns_of(raw, OUTCOMES, read)


def _floats(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("invalid_field") from None


def _in_slot(shadow: dict[str, Any] | None, k: int) -> tuple[str, bool, float] | None:
    """Return what the shadow of a list has in slot ``k``; None without one."""
    if shadow is None or k >= min(len(shadow["match"]), len(shadow["value"])):
        return None
    return shadow["ranker"], shadow["match"][k], float(shadow["value"][k])


def _shadow(slot: dict[str, Any] | None) -> tuple[str, bool, float] | None:
    """Return what the shadow has in the slot of an example; None without one."""
    return None if slot is None else (slot["ranker"], slot["match"], float(slot["value"]))


def _at(values: list[Any], k: int, otherwise: Any) -> Any:
    return values[k] if k < len(values) else otherwise


def _rest(
    i: dict[str, Any],
    explored: bool,
    score: float,
    sources: list[str],
    took: int,
    *,
    unshown: bool = False,
    shadow: tuple[str, bool, float] | None = None,
) -> int:
    """Return the digest of what an example repeats of its impression, without its place and features."""
    told = i["surface"], i["country"], i["device"], i["ranker"], i["spec"], explored, float(score), sources
    made_by = i.get("leaves", ""), i.get("settings", "")
    return digest(repr((*told, took, unshown, shadow, *made_by)).encode())
