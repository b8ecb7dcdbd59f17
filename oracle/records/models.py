"""Reading records of `models`: the published versions of one model, and whether their numbers are finite."""

from __future__ import annotations

import base64
import binascii
import json
import math
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
    return version, fits, _finite(body)


def _finite(content: Any) -> bool:
    """Return whether there are numbers in the lists and objects of ``content``, and only finite ones."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return bool(content) and all(map(_finite, content))
    return isinstance(content, int | float) and math.isfinite(content)
