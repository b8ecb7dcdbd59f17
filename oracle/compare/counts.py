"""Comparing windows, totals and decayed counts, of users and of items alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.oracle.compare.aligned import Aligned, check
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.values import CountValues
from headrace.oracle.features.counts import Counted
from headrace.oracle.features.windows import AHEAD_MS, WINDOWS, window_starts

Bool = npt.NDArray[np.bool_]

#: Relative tolerance of decayed counts and affinities: live values are summed in another order, with fewer
#: digits.
DECAYED_REL: Final = 1e-4
#: Absolute tolerance, for values near zero.
TINY: Final = 1e-6
#: Live windows are float32, which holds every whole number up to here.
_WHOLE: Final = 2**24


def check_counts(
    findings: Findings,
    rows: Aligned,
    known: Counted,
    live: CountValues,
    times: Sequence[int],
    covered_from: int,
) -> None:
    """Compare windows at each of ``times``; if the whole history is known, totals and decayed counts too.

    Windows that begin before ``covered_from`` are left out. Rows with an act long after the time asked are
    left out, too: their live windows are not exact.

    Parameters
    ----------
    rows
        The rows of ``known`` and ``live``, aligned.
    times
        ms.
    covered_from
        All acts from this time (ms) on are known; 0 when all are.
    """
    newest = rows.expected(known.newest(), -1)
    for at in times:
        covered, exact = window_starts(at) >= covered_from, newest <= at + AHEAD_MS
        if covered.any() and exact.any():
            check_windows(findings, rows, known, live, at, exact[:, None, None] & covered[None, :, None])
    if not covered_from:
        check_totals(findings, rows, known, live)
        check_decayed(findings, rows, known, live, max(times))


def check_windows(
    findings: Findings, rows: Aligned, known: Counted, live: CountValues, at: int, where: Bool
) -> None:
    """Compare the windows at ``at`` for which ``where``, bool ``(n, windows, 1)``, is true."""
    expected = rows.expected(known.windows(at))
    check(
        findings,
        rows,
        lambda w: f"{WINDOWS[w[0]]} {known.metrics[w[1]]}",
        expected,
        rows.found(live.windows(at)),
        at=at,
        where=where,
        slack=np.where(expected >= _WHOLE, expected / 2**22, 0),
    )


def check_totals(findings: Findings, rows: Aligned, known: Counted, live: CountValues) -> None:
    """Compare all-time counts."""
    check(
        findings,
        rows,
        lambda m: f"total {known.metrics[m[0]]}",
        rows.expected(known.totals()),
        rows.found(live.totals()),
    )


def check_decayed(findings: Findings, rows: Aligned, known: Counted, live: CountValues, at: int) -> None:
    """Compare the counts with a half-life of 30 days at ``at``."""
    expected = rows.expected(known.decayed(at))
    check(
        findings,
        rows,
        lambda m: f"30-day {known.metrics[m[0]]}",
        expected,
        rows.found(live.decayed(at)),
        at=at,
        slack=expected * DECAYED_REL + TINY,
    )
