from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clicking_world import clicking_world
from strategies import T0, record

from headrace.models.embeddings.artefact import save
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.pieces import cut
from headrace.models.embeddings.towers import Towers
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.topics import TOWERS, compare_towers
from headrace.oracle.records.towers import newest_towers

WORLD = clicking_world(200)
LEARNER = Learner(Towers(), WORLD.content, Plan(batch=50))
LEARNER.learn(WORLD.users, WORLD.items, WORLD.ts)
BODY = save(LEARNER)


def published(body: bytes = BODY, slot: int = 0) -> list[Any]:
    pieces, head = cut(body, slot, T0, {0: 3}, {})
    return [record(value, key=key, offset=n) for n, (key, value) in enumerate([*pieces, head])]


def said(records: list[Any]) -> list[tuple[str, Any, Any]]:
    findings = Findings()
    compare_towers(findings, newest_towers(records))
    assert findings.by_kind[TOWERS] == (1 if records else 0)
    return [(d.feature, d.expected, d.found) for d in findings.first]


def test_whole_towers_are_right() -> None:
    assert len(published()) > 3
    assert said(published()) == []
    assert said([]) == []


def test_a_version_that_was_only_begun_is_not_looked_at() -> None:
    assert said([*published(), *published(BODY + b"x", slot=1)[:-2]]) == []


@pytest.mark.parametrize("gone", [0, 2])
def test_a_missing_piece_is_found(gone: int) -> None:
    records = published()
    del records[gone]
    assert said(records) == [("pieces", "all", "1 are missing")]


def test_a_damaged_piece_is_found() -> None:
    records = published()
    value = bytearray(records[1].value)
    value[500] ^= 1
    records[1].value = bytes(value)
    assert said(records) == [("checksum", "that of the head", "another one")]


def test_numbers_that_are_not_finite_are_found() -> None:
    learner = Learner(Towers(), WORLD.content)
    learner.towers.own_map[0, 0] = np.inf
    assert said(published(save(learner))) == [("numbers", "finite", "not finite")]
    assert said(published(BODY[:-8])) == [("numbers", "finite", "not finite")]


def test_a_head_that_cannot_be_read_is_found() -> None:
    records = published()
    for value in (b"{}", b"\xff", b"[]"):
        records[-1].value = value
        assert said(records) == [("pieces", "all", "the head cannot be read")]
