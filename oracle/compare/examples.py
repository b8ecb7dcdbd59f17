"""Comparing examples with the slots that were shown: one for each, with the right outcome."""

from __future__ import annotations

from typing import Final

import polars as pl

from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.features.slot_labels import LABELS as NAMES
from headrace.oracle.features.slot_labels import SLOT, SLOW_MS

#: Names of the kinds in ``Findings.by_kind``.
EXAMPLES: Final = "examples"
LABELS: Final = "labels of examples"

_COPIED: Final = ("item", "propensity", "features", "rest")
_LABELS: Final = ("clicked", "dwell_ms", "liked", "hidden")


def compare_examples(
    findings: Findings, slots: pl.DataFrame, examples: pl.DataFrame, *, read_at: int, kept_from: int = 0
) -> None:
    """Compare the examples of one partition.

    Parameters
    ----------
    slots
        The result of ``slots_of``.
    examples
        ``EXAMPLES``.
    read_at
        The topics were read at this time (ms): impressions closed by then must have examples, others may.
    kept_from
        Examples of impressions that closed earlier (ms) may have been deleted.
    """
    valid = examples.filter(pl.col("verdict") == "").sort("offset")
    found = valid.group_by(SLOT, maintain_order=True).agg(
        pl.col("user_id", *_COPIED, *_LABELS, "label").first(), found=pl.len()
    )
    told = slots.join(found, on=SLOT, how="left", suffix="_found", maintain_order="left")
    told = told.with_columns(pl.col("found").fill_null(0))
    kept = pl.col("closes") >= kept_from
    due = kept & (pl.col("closes") + SLOW_MS <= read_at)
    _check_number(findings, told, due, kept)
    there = told.filter(pl.col("found") > 0)
    findings.count(
        EXAMPLES,
        len(told.filter(due)) + len(there.filter(~due)),
        len(told.filter((pl.col("found") == 0) & ~due)),
    )
    _check_copied(findings, there)
    _check_labels(findings, there)
    _check_origin(findings, found, slots)


def _check_number(findings: Findings, told: pl.DataFrame, due: pl.Expr, kept: pl.Expr) -> None:
    """Check that each slot has one example. An impression that is in the topic twice may have them twice."""
    findings.compared += len(told.filter(kept))
    few = told.filter(due & (pl.col("found") == 0))
    many = told.filter(pl.col("found") > pl.col("copies"))
    for bad in (few, many):
        _add(findings, bad.with_columns(expected=pl.lit(1)), "examples", "expected", "found")


def _check_copied(findings: Findings, there: pl.DataFrame) -> None:
    """Check what an example repeats of its impression. Of repeated impressions any may be meant."""
    once = there.filter(pl.col("copies") == 1)
    findings.compared += len(_COPIED) * len(once)
    for name in _COPIED:
        wrong = once.filter(pl.col(name).ne_missing(pl.col(f"{name}_found")))
        _add(findings, wrong, name, name, f"{name}_found")


def _check_labels(findings: Findings, there: pl.DataFrame) -> None:
    """Check the outcomes: at least what the events say that surely count, at most what all of them say.

    Of an impression that is in the topic twice, one example has the outcome, and no topic says which.
    """
    every, there = len(there), there.filter(pl.col("copies") == 1)
    certain = pl.lit(True)
    for name in _LABELS:
        least, most = pl.col(name), pl.col(f"most_{name}")
        have = pl.col(f"{name}_found").cast(pl.Int64)
        certain &= least == most
        wrong = there.filter((have < least) | (have > most)).with_columns(have.alias("have"))
        wanted = pl.when(have < least).then(least).otherwise(most)
        _add(findings, wrong.with_columns(wanted.alias("wanted")), name, "wanted", "have")
    told = [(pl.col("label") == name).cast(pl.Int64) * (1 << k) for k, name in enumerate(NAMES)]
    named = pl.sum_horizontal(told)
    there = there.with_columns(have=named, certain=certain)
    # An example of an older version has no label.
    labelled = there.filter(pl.col("label").is_not_null())
    right = (
        pl.when(pl.col("labels") == 0).then(pl.col("label") == "").otherwise((named & pl.col("labels")) > 0)
    )
    _add(findings, labelled.filter(~right), "label", "labels", "have")
    one = pl.col("label").is_null() | pl.col("labels").is_in([0, *(1 << k for k in range(len(NAMES)))])
    sure = len(there.filter(pl.col("certain") & one))
    findings.compared += len(_LABELS) * len(there) + len(labelled)
    findings.count(LABELS, sure, every - sure)


def _check_origin(findings: Findings, found: pl.DataFrame, slots: pl.DataFrame) -> None:
    """Check that every example of an impression that the topic has is of one of its slots."""
    shown = slots.select("user", "request", "ts").unique()
    strange = found.join(shown, on=["user", "request", "ts"]).join(slots, on=SLOT, how="anti")
    _add(findings, strange.with_columns(none=pl.lit(0)), "examples", "none", "found")


def _add(findings: Findings, bad: pl.DataFrame, feature: str, expected: str, found: str) -> None:
    told = bad.select("user_id", "user", "ts", "position", expected, found)

    def make(k: int) -> Difference:
        name, user, ts, position, want, have = told.row(k)
        if feature == "label":
            want, have = (" or ".join(n for k, n in enumerate(NAMES) if v >> k & 1) for v in (want, have))
        if feature in ("item", "features", "rest"):
            want, have = (None if v is None else f"{v:016x}" for v in (want, have))
        return Difference(f"slot {position} shown to {name}", f"{user:016x}", feature, ts, want, have)

    findings.add("slot", bad["user"].to_numpy(), make)
