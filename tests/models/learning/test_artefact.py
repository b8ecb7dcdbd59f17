from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.learning import artefact, online, ranker
from headrace.streams.errors import ArtefactError

FEATURES = ("a", "b")


def made(content: bytes = b"weights", /, **changes: Any) -> bytes:
    value, _ = artefact.encode("ranker", "lightgbm", content, FEATURES, 5, {"auc": 0.7})
    return orjson.dumps({**orjson.loads(value), **changes})


@given(st.binary(max_size=2000), st.dictionaries(st.text(max_size=9), st.floats(allow_nan=False), max_size=3))
def test_round_trip(body: bytes, metrics: dict[str, float]) -> None:
    value, version = artefact.encode("ranker", "lightgbm", body, FEATURES, 5, metrics)
    document = artefact.decode(value)
    assert document["body"] == body
    assert document["version"] == version
    assert document["metrics"].keys() == metrics.keys()
    assert (document["name"], document["kind"], document["created_ts"]) == ("ranker", "lightgbm", 5)
    assert tuple(document["features"]) == FEATURES


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(value: bytes) -> None:
    for decode in (artefact.decode, ranker.decode, online.decode):
        with pytest.raises(ArtefactError):
            decode(value)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["name", "version", "kind", "features", "body", "encoding"]), json_values)
def test_a_field_of_another_type_is_refused(field: str, value: Any) -> None:
    if orjson.loads(made())[field] == value:
        return
    changed = made(**{field: value})
    for decode in (ranker.decode, online.decode):
        with pytest.raises(ArtefactError):
            decode(changed)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_harmless(at: int, flip: int) -> None:
    value = bytearray(made(b"weights" * 50))
    value[at % len(value)] ^= flip
    try:
        document = artefact.decode(bytes(value))
    except ArtefactError:
        return
    assert document["body"] == b"weights" * 50


@given(st.integers(1, 400))
def test_a_cut_record_is_refused(cut: int) -> None:
    value = made()
    with pytest.raises(ArtefactError):
        artefact.decode(value[: -min(cut, len(value))])


@pytest.mark.parametrize("field", ["name", "version", "kind", "features", "body"])
def test_a_missing_field_is_named(field: str) -> None:
    document = orjson.loads(made())
    del document[field]
    with pytest.raises(ArtefactError, match=field):
        artefact.decode(orjson.dumps(document))


def test_a_body_that_does_not_match_its_version_is_refused() -> None:
    other = base64.b64encode(zlib.compress(b"others")).decode()
    with pytest.raises(ArtefactError, match="does not match"):
        artefact.decode(made(body=other))


def test_half_a_body_is_refused() -> None:
    packed = zlib.compress(bytes(range(256)) * 40)
    with pytest.raises(ArtefactError, match="end of its body"):
        artefact.decode(made(body=base64.b64encode(packed[:100]).decode()))


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "MAX_BODY", 1000)
    with pytest.raises(ArtefactError, match="end of its body"):
        artefact.decode(made(b"\0" * 1_000_000))


def test_a_metric_that_is_no_number_does_no_harm() -> None:
    value, _ = artefact.encode("ranker", "lightgbm", b"w", FEATURES, 5, {"auc": float("nan")})
    assert artefact.decode(value)["metrics"] == {"auc": None}


def test_it_is_json_and_never_pickle() -> None:
    document = json.loads(made())
    assert document["features"] == list(FEATURES)
    assert document["encoding"] == "zlib+base64"


def test_lists_are_compared() -> None:
    artefact.check_features("m", FEATURES, FEATURES)
    with pytest.raises(ArtefactError, match=r"only here: \['c'\]; only there: \['a'\]"):
        artefact.check_features("m", ("a", "b"), ("b", "c"))
    with pytest.raises(ArtefactError, match="same names in another order"):
        artefact.check_features("m", ("a", "b"), ("b", "a"))
