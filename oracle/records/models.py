"""Reading records of `models`: published versions and leaf deltas, and whether their numbers are finite."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

#: Published versions in their order. ``fits``: made for the feature list of this code. ``finite``: all
#: numbers of the body are finite.
VERSIONS: Final = pl.Schema(
    {
        "offset": pl.Int64,
        "timestamp": pl.Int64,
        "version": pl.String,
        "fits": pl.Boolean,
        "finite": pl.Boolean,
    }
)
#: What the body of a version must have.
_NUMBERS: Final = ("mean", "scale", "weights", "bias")
#: Parts of the body that are tables, as text.
_TABLES: Final = ("terms",)


#: Published leaf deltas in their order. ``known``: the topic has the ranker that they name, before them.
DELTAS: Final = pl.Schema(
    {
        "offset": pl.Int64,
        "version": pl.String,
        "ranker": pl.String,
        "known": pl.Boolean,
        "finite": pl.Boolean,
    }
)


class Learnt(NamedTuple):
    """What the newest online model says that it has learnt.

    Attributes
    ----------
    version, offset
        Of the model, and its record.
    examples
        How many shown slots.
    read
        By partition of `impressions`, the offset after the last record.
    """

    version: str
    offset: int
    examples: int
    read: dict[int, int]


def read_learnt(records: Iterable[Any], name: str, features: Sequence[str]) -> Learnt | None:
    """Return what the newest version of a model was learnt from; None when it does not say."""
    values = [r for r in records if r.key == name.encode() and r.value is not None]
    if not values:
        return None
    version, fits, body = _opened(values[-1].value, list(features))
    try:
        read = {int(p): int(at) for p, at in (body or {})["offsets"]["impressions"].items()}
        examples = int(json.loads(values[-1].value)["metrics"]["examples"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Learnt(version, values[-1].offset, examples, read) if fits else None


def read_deltas(records: Iterable[Any]) -> pl.DataFrame:
    """Return the leaf deltas as ``DELTAS``. A record that is no document is not finite."""
    rows, rankers = [], set[str]()
    for record in records:
        if record.value is None:
            continue
        if record.key == b"leaves":
            version, named, finite = _read_deltas(record.value)
            rows.append((record.offset, version, named, named in rankers, finite))
        else:
            try:
                document = json.loads(record.value)
                rankers |= {document["version"]} if document["name"] == "ranker" else set()
            except (ValueError, KeyError, TypeError):
                continue
    return pl.DataFrame(rows, DELTAS, orient="row")


def _read_deltas(value: bytes) -> tuple[str, str, bool]:
    version, _, body = _opened(value, [])
    if body is None:
        return version, "", False
    ranker, terms = body.pop("ranker", None), body.pop("terms", "")
    whole = all(isinstance(body.get(name), list) and body[name] for name in ("deltas", "squares"))
    return version, str(ranker), whole and _finite_table(terms) and _finite(body)


def read_versions(records: Iterable[Any], name: str, features: Sequence[str]) -> pl.DataFrame:
    """Return the versions of a model as ``VERSIONS``. A record that is no document is not finite."""
    rows = [
        (record.offset, record.timestamp, *_read(record.value, list(features)))
        for record in records
        if record.key == name.encode() and record.value is not None
    ]
    return pl.DataFrame(rows, VERSIONS, orient="row")


def _read(value: bytes, features: list[str]) -> tuple[str, bool, bool]:
    version, fits, body = _opened(value, features)
    if body is None:
        return version, fits, False
    whole = all(body.get(name) not in (None, []) for name in _NUMBERS)
    heads = body.pop("heads", {})  # older versions have none
    heads = heads.values() if isinstance(heads, dict) else [None]
    return version, fits, whole and all(map(_finite_head, [body, *heads]))


def _finite_head(body: Any) -> bool:
    """Return whether all numbers of a body, or of one objective in it, are finite, its tables, too."""
    if not isinstance(body, dict):
        return False
    tables = all(_finite_table(body.pop(name, "")) for name in _TABLES)
    return tables and bool(body) and _finite(body)


def _opened(value: bytes, features: list[str]) -> tuple[str, bool, dict[str, Any] | None]:
    """Return version, whether the features are these, and the body; None when it is no document."""
    try:
        document = json.loads(value)
        version, fits = str(document["version"]), document["features"] == features
        body = json.loads(zlib.decompress(base64.b64decode(document["body"], validate=True)))
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error):
        return "", True, None
    return version, fits, body if isinstance(body, dict) else None


def _finite_table(text: Any) -> bool:
    """Return whether a text has float16 numbers in base64, all finite; none is right, too."""
    try:
        packed = base64.b64decode(text, validate=True)
        return all(math.isfinite(number) for (number,) in struct.iter_unpack("<e", packed))
    except (TypeError, ValueError, struct.error):
        return False


def _finite(content: Any) -> bool:
    """Return whether ``content`` consists of finite numbers, in lists and objects."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return all(map(_finite, content))
    return isinstance(content, int | float) and math.isfinite(content)
