"""Comparing the counts of a rollout's arms."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.features.arms import ARMS, CLUSTERS, TOTALS, ArmRecord

#: Name of the kind in ``Findings.by_kind``.
ARM_COUNTS: Final = "counts of a rollout"


def compare_arms(findings: Findings, record: ArmRecord, totals: pl.DataFrame) -> None:
    """Compare the totals of a record with those of ``arm_totals``, summed over all partitions."""
    expected = {
        (arm, int(cluster), name): value
        for arm, cluster, *values in totals.select("arm", "cluster", *TOTALS).iter_rows()
        for name, value in zip(TOTALS, values, strict=True)
    }
    cells = [(arm, cluster, name) for arm in ARMS for name in TOTALS for cluster in range(CLUSTERS)]
    found = np.array(record.totals, np.int64).reshape(-1).tolist()
    findings.compared += len(cells)
    findings.count(ARM_COUNTS, len(cells))
    wrong = [k for k, cell in enumerate(cells) if found[k] != expected.get(cell, 0)]

    def make(n: int) -> Difference:
        arm, cluster, name = cells[wrong[n]]
        want = expected.get(cells[wrong[n]], 0)
        row = f"{arm} arm of rollout {record.name}, cluster {cluster}"
        return Difference(row, f"{cluster:016x}", name, None, want, found[wrong[n]])

    findings.add("arm", np.array([cells[k][1] for k in wrong], np.uint64), make)
