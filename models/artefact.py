"""Model artefacts as they travel on `models`: JSON, the weights inside, never pickle.

    {"name": "ranker", "version": "...", "kind": "lightgbm", "features": [...], "spec": "...",
     "created_ts": ..., "metrics": {...}, "encoding": "zlib+base64", "body": "..."}
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import orjson

from models.features import FeatureSpec
from streams.errors import ArtefactError

#: A body that inflates past this is refused: nothing we train comes near it.
MAX_BODY = 256 * 1024 * 1024


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
        It is not an artefact, or its body does not match its version.
    """
    try:
        document: dict[str, Any] = orjson.loads(value)
        packed = base64.b64decode(document["body"], validate=True)
        inflate = zlib.decompressobj()
        body = inflate.decompress(packed, MAX_BODY)
        missing = {"name", "version", "kind", "features"} - set(document)
    except (ValueError, KeyError, TypeError, zlib.error) as exc:
        raise ArtefactError(f"not a model artefact: {exc}") from exc
    if missing or not inflate.eof:
        raise ArtefactError(f"not a model artefact: lacks {sorted(missing) or 'the end of its body'}")
    if hashlib.sha256(body).hexdigest()[:12] != document["version"]:
        raise ArtefactError(f"artefact {document['name']}: the body does not match version {document['version']}")
    document["body"] = body
    return document


def check_features(name: str, artefact: tuple[str, ...], spec: tuple[str, ...]) -> None:
    """Refuse an artefact made for another feature list, naming both."""
    if artefact != spec:
        added = [f for f in spec if f not in artefact]
        gone = [f for f in artefact if f not in spec]
        raise ArtefactError(
            f"{name} was made for other features: artefact has {list(artefact)}, this code has {list(spec)} "
            f"(only here: {added}; only there: {gone}; "
            f"{'same names in another order' if not added and not gone else 'retrain it'})"
        )


def spec_names(spec: FeatureSpec | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a spec or list."""
    return spec.names if isinstance(spec, FeatureSpec) else spec
