"""Model artefacts, the values of the records on `models`: JSON with the weights inside, never pickle.

{"name": "ranker", "version": "...", "kind": "lightgbm", "features": [...],
 "created_ts": ..., "metrics": {...}, "encoding": "zlib+base64", "body": "..."}
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any, Literal

import msgspec
import orjson

from headrace.streams.errors import ArtefactError

#: A body larger than this (bytes, uncompressed) is refused: our models are much smaller.
MAX_BODY = 256 * 1024 * 1024


class _Document(msgspec.Struct):
    name: str
    version: str
    kind: str
    features: tuple[str, ...]
    body: str
    created_ts: int = 0
    metrics: dict[str, float | None] = {}
    encoding: Literal["zlib+base64"] = "zlib+base64"


def encode(
    name: str, kind: str, body: bytes, features: tuple[str, ...], created_ts: int, metrics: dict[str, float]
) -> tuple[bytes, str]:
    """Return the record value and the version: the start of the body's SHA-256."""
    version = hashlib.sha256(body).hexdigest()[:12]
    document = {
        "name": name,
        "version": version,
        "kind": kind,
        "features": list(features),
        "created_ts": created_ts,
        "metrics": metrics,
        "encoding": "zlib+base64",
        "body": base64.b64encode(zlib.compress(body, 6)).decode(),
    }
    return orjson.dumps(document), version


def decode(value: bytes) -> dict[str, Any]:
    """Return the document with ``body`` as bytes.

    Raises
    ------
    ArtefactError
        The value is not an artefact, or its body does not match its version.
    """
    try:
        fields = msgspec.convert(orjson.loads(value), _Document)
        packed = base64.b64decode(fields.body, validate=True)
        inflate = zlib.decompressobj()
        body = inflate.decompress(packed, MAX_BODY)
    except (ValueError, zlib.error) as exc:  # msgspec's and orjson's errors are ValueErrors
        raise ArtefactError(f"not a model artefact: {exc}") from exc
    if not inflate.eof:
        raise ArtefactError("not a model artefact: lacks the end of its body")
    if hashlib.sha256(body).hexdigest()[:12] != fields.version:
        raise ArtefactError(f"artefact {fields.name}: the body does not match version {fields.version}")
    return {**msgspec.structs.asdict(fields), "body": body}


def check_features(name: str, artefact: tuple[str, ...], spec: tuple[str, ...]) -> None:
    """Raise ``ArtefactError``, naming both lists, when an artefact was made for another feature list."""
    if artefact != spec:
        added = [f for f in spec if f not in artefact]
        gone = [f for f in artefact if f not in spec]
        raise ArtefactError(
            f"{name} was made for other features: artefact has {list(artefact)}, this code has {list(spec)} "
            f"(only here: {added}; only there: {gone}; "
            f"{'same names in another order' if not added and not gone else 'retrain it'})"
        )
