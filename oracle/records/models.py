"""Reading records of `models`: the published versions of one model, and whether their numbers are finite."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

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


def read_versions(records: Iterable[Any], name: str, features: Sequence[str]) -> pl.DataFrame:
    """Return the versions of a model as ``VERSIONS``. A record that is no document is not finite."""
    rows = [
        (record.offset, record.timestamp, *_read(record.value, list(features)))
        for record in records
        if record.key == name.encode() and record.value is not None
    ]
    return pl.DataFrame(rows, VERSIONS, orient="row")


def _read(value: bytes, features: list[str]) -> tuple[str, bool, bool]:
    try:
        document = json.loads(value)
        version, fits = str(document["version"]), document["features"] == features
        body = json.loads(zlib.decompress(base64.b64decode(document["body"], validate=True)))
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error):
        return "", True, False
    if not isinstance(body, dict):
        return version, fits, False
    whole = all(body.get(name) not in (None, []) for name in _NUMBERS)
    tables = all(_finite_table(body.pop(name, "")) for name in _TABLES)
    return version, fits, whole and tables and _finite(body)


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
