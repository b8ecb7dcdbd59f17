from __future__ import annotations

import json

import numpy as np
import pytest
from clicking_world import ClickingWorld, clicking_world
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings import artefact, directions
from headrace.models.embeddings.artefact import decode, encode, restore, save
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.towers import Towers
from headrace.models.learning import artefact as records
from headrace.streams.errors import ArtefactError

WORLD = clicking_world(600)


def learnt(world: ClickingWorld = WORLD, clicks: int = 300) -> Learner:
    learner = Learner(Towers(), world.content, Plan(batch=50))
    learner.learn(world.users.part(0, clicks), world.items[:clicks], world.ts[:clicks])
    return learner


LEARNER = learnt()
BODY, VERSION = encode(LEARNER.towers)


def with_head(body: bytes, **changes: object) -> bytes:
    start = len(artefact._MAGIC) + 4
    size = int.from_bytes(body[start - 4 : start], "little")
    head = json.loads(body[start : start + size]) | changes
    packed = json.dumps(head).encode()
    packed += b" " * (-(start + len(packed)) % 8)
    return artefact._MAGIC + len(packed).to_bytes(4, "little") + packed + body[start + size :]


def test_serving_gets_the_vectors_of_the_learner_to_float16() -> None:
    towers = decode(BODY)
    assert towers.version == VERSION == artefact.version_of(BODY)
    np.testing.assert_allclose(
        towers.item_vectors(WORLD.keys, WORLD.content),
        LEARNER.towers.item_vectors(WORLD.keys, WORLD.content),
        atol=2e-3,
    )
    np.testing.assert_array_equal(towers.weights, LEARNER.towers.weights)
    np.testing.assert_array_equal(towers.own_map, LEARNER.towers.own_map)


def test_what_was_decoded_is_encoded_to_the_same_bytes() -> None:
    assert encode(decode(BODY)) == (BODY, VERSION)
    assert encode(learnt().towers) == (BODY, VERSION)
    assert encode(learnt(clicks=350).towers)[1] != VERSION


def test_version_0_can_be_encoded() -> None:
    towers = decode(encode(Towers())[0])
    np.testing.assert_array_equal(
        towers.item_vectors(WORLD.keys, WORLD.content), Towers().item_vectors(WORLD.keys, WORLD.content)
    )


def test_a_restored_learner_goes_on_as_if_it_had_never_stopped() -> None:
    restored = restore(save(LEARNER), WORLD.content, LEARNER.plan)
    assert (restored.learnt, restored.loss) == (LEARNER.learnt, LEARNER.loss)
    whole = learnt(clicks=600)
    restored.learn(WORLD.users.part(300, 600), WORLD.items[300:], WORLD.ts[300:])
    assert save(restored) == save(whole)
    assert restored.expire(int(WORLD.ts[500])) == whole.expire(int(WORLD.ts[500])) > 0
    assert save(restored) == save(whole)


def test_it_travels_as_a_model_record() -> None:
    value, version = records.encode("towers", "two-tower", BODY, (), 1, {})
    assert version == VERSION
    assert decode(records.decode(value)["body"]).version == VERSION


@pytest.mark.parametrize(
    ("change", "theirs", "ours"),
    [
        ({"dim": 32}, "DIM 32", f"DIM {directions.DIM}"),
        ({"format": 9}, "format 9", f"format {artefact.FORMAT}"),
        ({"kinds": ["category", "mood"]}, "kinds category, mood", "country, device"),
    ],
)
def test_another_form_is_refused_and_both_are_named(
    change: dict[str, object], theirs: str, ours: str
) -> None:
    with pytest.raises(ArtefactError) as refused:
        decode(with_head(BODY, **change))
    assert theirs in str(refused.value)
    assert ours in str(refused.value)


def test_one_form_is_not_taken_for_the_other() -> None:
    with pytest.raises(ArtefactError, match="this code reads"):
        decode(save(LEARNER))
    with pytest.raises(ArtefactError, match="this code reads"):
        restore(BODY, WORLD.content)


@pytest.mark.parametrize("body", [b"", b"x", b"headrace towers\n", BODY[:40], BODY[:-1], BODY + b"\0"])
def test_what_is_cut_is_refused(body: bytes) -> None:
    with pytest.raises(ArtefactError):
        decode(body)


def test_arrays_of_other_shapes_or_types_are_refused() -> None:
    for described in (
        {"keys": ["<u8", [2**40]]},
        {"keys": ["|O", [1]]},
        {"keys": ["<u8", [-1]]},
        {"keys": ["<f4", [0]]},
        {},
    ):
        with pytest.raises(ArtefactError):
            decode(with_head(BODY, arrays=described))


def test_rows_that_are_not_sound_are_refused() -> None:
    for change in ("key", "kind", "vector"):
        towers = learnt().towers
        data = towers.table.rows.data
        row = towers.table.rows.rows()[0]
        data[change][row] = {"key": 0, "kind": 200, "vector": np.nan}[change]
        with pytest.raises(ArtefactError, match=r"wrong keys or kinds|not finite"):
            decode(encode(towers)[0])


def test_too_large_a_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "MAX_BODY", 10_000)
    with pytest.raises(ArtefactError, match="more than 10000"):
        encode(LEARNER.towers)
    with pytest.raises(ArtefactError, match="not an artefact"):
        decode(BODY)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_gives_finite_vectors(at: int, change: int) -> None:
    body = bytearray(BODY)
    body[at] ^= change
    try:
        towers = decode(bytes(body))
    except ArtefactError:
        return
    assert np.isfinite(towers.item_vectors(WORLD.keys[:5], WORLD.content)).all()
