"""Dedup windows, published versions, and the versions that impressions name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from oracle_examples import encode, impression
from small_models import online_of_all
from strategies import T0, record

from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning import artefact, leaves, online
from headrace.models.learning.hashed import SLOTS
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.topics import (
    IDS,
    LEARNT,
    LEAVES,
    NAMED,
    VERSIONS,
    compare_deltas,
    compare_learnt,
    compare_versions,
    compare_windows,
)
from headrace.oracle.features.versions import KNOWN_MS, named_versions
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.models import Learnt, read_deltas, read_learnt, read_versions
from headrace.oracle.records.shown import read_shown

N = len(ONLINE_NAMES)


def published(weight: float, **changes: Any) -> tuple[bytes, str]:
    arrays = {name: np.full(N, 1.0, np.float32) for name in ("mean", "scale")}
    weights = online.OnlineWeights(**arrays, weights=np.full(N, weight, np.float32), bias=0.5)
    for name, value in changes.items():
        setattr(weights, name, value)
    return online.encode(weights, T0, {})


def versions(*values: bytes | None, names: tuple[str, ...] = ONLINE_NAMES) -> pl.DataFrame:
    """Return the versions in these records, one a minute."""
    told = [record(v, key=b"online", offset=i, timestamp=T0 + 60_000 * i) for i, v in enumerate(values)]
    return read_versions([*told, record(b"{}", key=b"ranker", offset=99)], "online", names)


def test_versions_are_read_without_the_live_decoder() -> None:
    (one, first), (two, second) = published(1.0), published(2.0)
    read = versions(one, None, two)
    assert read["version"].to_list() == [first, second]
    assert read.select(pl.col("fits", "finite").all()).row(0) == (True, True)
    assert versions(one, names=("age",))["fits"].to_list() == [False]
    assert online.decode(one).version == first


#: Objectives of which something is not finite.
HEADS = [
    dataclasses.replace(online.Head.none(), bias=math.nan),
    dataclasses.replace(online.Head.none(), weights=np.full(N, math.inf, np.float32)),
    dataclasses.replace(online.Head.none(), squares=np.full(N + 1, math.nan, np.float32)),
    dataclasses.replace(online.Head.none(), terms=np.full(SLOTS, math.nan, np.float32)),
]


def test_a_version_of_all_objectives_is_finite() -> None:
    read = versions(online.encode(online_of_all(), T0, {})[0])
    assert read.select("fits", "finite").row(0) == (True, True)


@pytest.mark.parametrize(
    "bad",
    [
        published(math.nan)[0],
        published(1.0, bias=math.inf)[0],
        published(1.0, terms=np.full(SLOTS, math.nan))[0],
        published(1.0, mean=np.array([math.nan] * N, np.float32))[0],
        *(published(1.0, heads={"like": head})[0] for head in HEADS),
        b"{}",
        b"\xff",
        published(1.0)[0].replace(b'"body":"', b'"body":"@'),
    ],
)
def test_a_version_that_is_not_finite_is_found(bad: bytes) -> None:
    findings = Findings()
    read = versions(published(1.0)[0], bad)
    compare_versions(findings, read, named_versions(seen(), read, whole=True))
    assert [(d.feature, d.expected, d.found) for d in findings.first] == [("weights", "finite", "not finite")]
    assert findings.by_kind[VERSIONS] == 2


def seen(*lists: tuple[str, int]) -> pl.DataFrame:
    """Return impressions with these versions, made and logged at these times."""
    told = [
        record(encode(impression(f"r{i}", online=version, ts=at)), offset=i, timestamp=at)
        for i, (version, at) in enumerate(lists)
    ]
    return read_shown(raw_records("i", 0, told), max_bytes=10**6, spec=SPEC.version, width=len(SPEC))


def test_a_list_names_the_version_published_before_or_a_newer_one() -> None:
    """Versions at T0 and a minute later."""
    (one, first), (two, second) = published(1.0), published(2.0)
    read, late = versions(one, two), T0 + 60_000 + KNOWN_MS

    def told(*lists: tuple[str, int], whole: bool = True) -> tuple[int, int, int]:
        findings = Findings()
        compare_versions(findings, read, named_versions(seen(*lists), read, whole=whole))
        return findings.differences, findings.by_kind[NAMED], findings.left_out[NAMED]

    assert told(("", T0 + KNOWN_MS)) == (0, 0, 0), "it may not be known everywhere"
    assert told(("", T0 + KNOWN_MS + 1)) == (1, 1, 0)
    assert told((first, T0 + KNOWN_MS + 1), (second, T0 + KNOWN_MS + 1)) == (0, 2, 0)
    assert told((first, late), (first, late + 1), (second, late + 1)) == (1, 3, 0)
    assert told(("another", late + 1)) == (1, 1, 0)
    assert told(("another", late + 1), whole=False) == (0, 0, 1)


def test_an_old_version_is_named_in_words() -> None:
    (one, first), (two, second) = published(1.0), published(2.0)
    findings, read = Findings(), versions(one, two)
    compare_versions(findings, read, named_versions(seen((first, T0 + 10 * KNOWN_MS)), read, whole=True))
    (found,) = findings.first
    assert (found.row, found.feature) == ("list shown to u", "online")
    assert (found.expected, found.found) == (f"{second} or newer", first)


def test_a_list_is_judged_by_the_earlier_of_its_times() -> None:
    """The clock of a worker stepped forward between making a list and logging it."""
    (one, first), (two, _) = published(1.0), published(2.0)
    read, at = versions(one, two), T0 + 10 * KNOWN_MS

    def differences(made: int, logged: int) -> int:
        told = [record(encode(impression("r", online=first, ts=made)), offset=0, timestamp=logged)]
        shown = read_shown(raw_records("i", 0, told), max_bytes=10**6, spec=SPEC.version, width=len(SPEC))
        findings = Findings()
        compare_versions(findings, read, named_versions(shown, read, whole=True))
        return findings.differences

    assert [differences(T0, at), differences(at, T0), differences(at, at)] == [0, 0, 1]


def test_a_list_is_no_younger_than_the_next_one_of_its_partition() -> None:
    """The clock of a worker was ahead when it made a list and logged it; then it was right again."""
    (one, first), (two, second) = published(1.0), published(2.0)
    read, ahead = versions(one, two), T0 + 10 * KNOWN_MS

    def differences(*lists: tuple[str, int]) -> int:
        findings = Findings()
        compare_versions(findings, read, named_versions(seen(*lists), read, whole=True))
        return findings.differences

    assert differences((first, ahead), (second, T0 + 70_000)) == 0
    assert differences((first, ahead), (second, ahead)) == 1
    assert differences((second, T0 + 70_000), (first, ahead)) == 1


def test_a_version_that_does_not_fit_this_code_need_not_be_in_use() -> None:
    (one, first), (two, _) = published(1.0), published(2.0)
    other = msgspec.json.encode(msgspec.json.decode(two) | {"features": ["age"]})
    read = versions(one, other)
    findings = Findings()
    compare_versions(findings, read, named_versions(seen((first, T0 + 10 * KNOWN_MS)), read, whole=True))
    assert (findings.first, findings.by_kind[NAMED]) == ([], 1)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({1: 10, 2: 20}, []),
        ({1: 10}, [(2, 20, None)]),
        ({1: 10, 2: 19}, [(2, 20, 19)]),
        ({1: 10, 2: 20, 3: 5}, [(3, None, 5)]),
    ],
)
def test_a_window_that_lacks_or_has_an_id_is_found(found: dict[int, int], wrong: list[Any]) -> None:
    findings = Findings()
    compare_windows(findings, 3, {1: 10, 2: 20}, found)
    told = [(int(d.key, 16), d.expected, d.found) for d in findings.first]
    assert told == wrong
    assert findings.by_kind[IDS] == 2
    assert {d.row for d in findings.first} <= {"dedup window of partition 3"}


def deltas(ranker_version: str, value: float = 0.1) -> bytes:
    numbers = np.full(3, value, np.float32)
    found = leaves.LeafDeltas(ranker_version, numbers, np.ones(3, np.float32), True)
    return leaves.encode(found, T0, {})[0]


def test_leaf_deltas_are_finite_and_of_a_ranker_published_before() -> None:
    value, version = artefact.encode("ranker", "lightgbm", b"x", SPEC.names, T0, {})
    told = [
        (b"leaves", deltas(version)),
        (b"ranker", value),
        (b"leaves", deltas(version)),
        (b"leaves", deltas(version, math.inf)),
        (b"leaves", deltas("another")),
        (b"leaves", b"{}"),
        (b"leaves", None),
    ]
    read = read_deltas([record(v, key=key, offset=i) for i, (key, v) in enumerate(told)])
    assert read.select("offset", "known", "finite").rows() == [
        (0, False, True),
        (2, True, True),
        (3, True, False),
        (4, False, True),
        (5, False, False),
    ]
    for whole, wrong in ((True, {0, 3, 4, 5}), (False, {3, 5})):
        findings = Findings()
        compare_deltas(findings, read, whole=whole)
        assert {int(d.key, 16) for d in findings.first} == wrong
        assert (findings.by_kind[LEAVES], findings.left_out[LEAVES]) == (5, 0 if whole else 3)


def learnt_of(examples: int, read: dict[int, int]) -> Learnt | None:
    arrays = {name: np.full(N, 1.0, np.float32) for name in ("mean", "scale", "weights")}
    value, _ = online.encode(
        online.OnlineWeights(**arrays, bias=0.5), T0, {"examples": float(examples)}, {"impressions": read}
    )
    return read_learnt([record(value, key=b"online", offset=7)], "online", ONLINE_NAMES)


@pytest.mark.parametrize(
    ("examples", "read", "wrong"),
    [(4, {0: 2}, 0), (2, {0: 1}, 0), (3, {0: 2}, 1), (5, {0: 2}, 1), (2, {0: 2, 1: 5}, 1)],
)
def test_a_model_that_missed_a_shown_slot_or_learnt_one_twice_is_found(
    examples: int, read: dict[int, int], wrong: int
) -> None:
    lists = [record(encode(impression(f"r{k}")), key=b"u", offset=k) for k in range(2)]
    shown = read_shown(
        raw_records("impressions", 0, lists), max_bytes=10**6, spec=SPEC.version, width=len(SPEC)
    )
    slots = shown["items"].list.len().to_list()
    assert slots == [2, 2]
    findings = Findings(5)
    compare_learnt(findings, learnt_of(examples, read), shown, whole=True)
    assert findings.differences == wrong
    assert findings.by_kind[LEARNT] == sum(slots[: read[0]])
    compare_learnt(rest := Findings(5), learnt_of(examples, read), shown, whole=False)
    assert rest.differences == 0
