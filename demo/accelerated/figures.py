"""The figures of a run in simulated time."""

from __future__ import annotations

from typing import Any

from headrace.demo.accelerated.recovery import recovery
from headrace.demo.simulation.tally import Tally

#: Length of the steps of a series, s.
STEP_S = 10


def over_time(tally: Tally, aucs: list[tuple[int, float]], start: int, end: int) -> dict[str, list[float]]:
    """Return the figures of every step of ``STEP_S`` seconds, by name; ``at_s`` is the end of the step, s.

    Parameters
    ----------
    tally
        Click rates and shares of the best possible clicks.
    aucs
        Times (ms) and rolling AUC of the online model.
    start, end
        Times, ms.
    """
    out: dict[str, list[float]] = {
        name: []
        for name in ("at_s", "ctr_ours", "ctr_popularity", "best_ours", "best_popularity", "online_auc")
    }
    for a in range(start, end - 1000 * STEP_S + 1, 1000 * STEP_S):
        b = a + 1000 * STEP_S
        out["at_s"].append((b - start) / 1000)
        for name, control in (("ours", False), ("popularity", True)):
            out[f"ctr_{name}"].append(round(tally.rate(control, a, b), 4))
            out[f"best_{name}"].append(round(tally.best_share(control, a, b), 4))
        out["online_auc"].append(round(next((auc for t, auc in reversed(aucs) if t <= b), 0.5), 4))
    return out


def whole(tally: Tally, start: int, end: int) -> dict[str, Any]:
    """Return the figures of a whole run, and of its thirds."""
    third = (end - start) // 3
    parts = [(start + k * third, start + (k + 1) * third) for k in range(3)]
    out: dict[str, Any] = {}
    for name, control in (("ours", False), ("popularity", True)):
        out[f"ctr_{name}"] = round(tally.rate(control), 4)
        out[f"ctr_{name}_by_third"] = [round(tally.rate(control, *part), 4) for part in parts]
        out[f"best_{name}"] = round(tally.best_share(control), 4)
        out[f"best_{name}_by_third"] = [round(tally.best_share(control, *part), 4) for part in parts]
    out["ratio"] = _ratio(out["ctr_ours"], out["ctr_popularity"])
    out["ratio_by_third"] = list(map(_ratio, out["ctr_ours_by_third"], out["ctr_popularity_by_third"]))
    share, new, other = tally.new_items(False)
    return out | {"new_share": round(share, 4), "new_ctr": round(new, 4), "not_new_ctr": round(other, 4)}


def after_shift(series: dict[str, list[float]], shift_s: float) -> dict[str, Any]:
    """Return what a shift of tastes cost, and how soon half of it was recovered; empty without a shift."""
    found = recovery(series["best_ours"], STEP_S, shift_s) if shift_s else None
    if found is None:
        return {}
    return {
        "best_before_shift": round(found.before, 4),
        "best_at_worst": round(found.worst, 4),
        "half_recovered_s": found.half_s,
    }


def _ratio(a: float, b: float) -> float:
    return round(a / b, 2) if b else 0.0
