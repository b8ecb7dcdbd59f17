"""Comparing the counts of a rollout's arms, and of its shadow."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.features.arms import (
    ARMS,
    CLUSTERS,
    RETURNS,
    SHADOW,
    TOTALS,
    ArmRecord,
    arm_totals,
    return_totals,
    shadow_totals,
    shadow_versions,
)

#: Name of the kind in ``Findings.by_kind``.
ARM_COUNTS: Final = "counts of a rollout"


def compare_arms(findings: Findings, record: ArmRecord, outcomes: pl.DataFrame) -> None:
    """Compare the totals of a record with those of its examples, the result of ``counted``."""
    arms, returns = arm_totals(outcomes), return_totals(outcomes, record)
    for k, arm in enumerate(ARMS):
        mine, what = pl.col("arm") == arm, f"{arm} arm"
        _compare(findings, record, what, TOTALS, arms.filter(mine), record.totals[k])
        _compare(findings, record, f"{what}, returns", RETURNS, returns.filter(mine), record.returns[k])
    for version in shadow_versions(outcomes, record):
        told = record.shadows.get(version, [[0] * CLUSTERS] * len(SHADOW))
        _compare(findings, record, f"shadow {version}", SHADOW, shadow_totals(outcomes, version), told)


def _compare(
    findings: Findings,
    record: ArmRecord,
    what: str,
    names: tuple[str, ...],
    totals: pl.DataFrame,
    told: list[list[int]],
) -> None:
    """Compare totals by cluster."""
    expected = np.zeros((len(names), CLUSTERS), np.int64)
    expected[:, totals["cluster"].to_numpy()] = totals.select(names).to_numpy().T
    found = np.array(told, np.int64)
    findings.compared += expected.size
    findings.count(ARM_COUNTS, expected.size)
    wrong = np.argwhere(found != expected)

    def make(n: int) -> Difference:
        k, cluster = wrong[n].tolist()
        row = f"{what} of rollout of {record.kind} {record.name}, cluster {cluster}"
        want, have = int(expected[k, cluster]), int(found[k, cluster])
        return Difference(row, f"{cluster:016x}", names[k], None, want, have)

    findings.add(what, wrong[:, 1].astype(np.uint64), make)
