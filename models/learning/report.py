"""The report of a training, as JSON: figures that position cannot flatter, and what the ranker goes by.

Every figure is of the newest lists, by a ranker that was trained without them. There are several views of
them (``VIEWS``), because what was shown, and where, was decided by the ranker before.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning.ablation import ablation
from headrace.models.learning.figures import Scored, figures
from headrace.models.learning.objectives import CLICK, OBJECTIVES
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training_set import Examples, Part

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: At most about so many slots are looked at, as whole lists.
MOST = 200_000
#: Largest weight of a slot in the figures; a larger ``train_weight_clip`` is used instead.
CLIP = 20.0
#: Points of the reliability curve, and positions that are told apart.
POINTS, POSITIONS = 10, 20
#: With so many clicks on explored slots, they say how much a position is looked at.
LEAST_EXPLORED = 100

#: The views, what each is of, and whether position can flatter it.
VIEWS = {
    "position_fixed": (
        "position fixed",
        "the score does not know the position, and AUC compares slots at the same position only",
    ),
    "inverse_propensity": (
        "inverse propensity",
        "the same, each slot weighted by 1 / the probability of its item there; a click also by how much its "
        "position is looked at, if explored slots tell",
    ),
    "explored": (
        "explored slots only",
        "items that came by chance: no ranker chose them or their position",
    ),
    "as_logged": (
        "as logged",
        "for comparison: the score knows the position, and all slots are compared; position flatters this",
    ),
}


@dataclass(frozen=True, slots=True)
class Held:
    """The slots that are looked at; arrays are ``(n,)``."""

    part: Part
    lists: npt.NDArray[np.uint64]
    position: I64
    chance: F64
    explored: Bool
    chosen: Bool  # of all held-out slots, which these are


def held(found: Examples) -> Held:
    """Return the held-out slots to look at: of many lists, those with the smallest hashes."""
    lists = found.newest.lists
    if lists is None:
        raise ValueError("the held-out slots have no lists")
    chosen = lists <= np.uint64(min(1.0, MOST / max(1, len(lists))) * (2.0**64 - 2048))
    part = found.newest.where(chosen)
    return Held(
        part,
        lists[chosen],
        found.position[chosen].astype(np.int64),
        found.chance[chosen].astype(np.float64),
        found.explored[chosen],
        chosen,
    )


def views(
    seen: Held, happened: Bool, score: F64, probability: F64, as_logged: F64, clip: float
) -> dict[str, Any]:
    """Return the figures of every view of one objective; arrays are ``(n,)``.

    Parameters
    ----------
    score, probability
        Without knowledge of the position; the second is calibrated.
    as_logged
        The score that knows it.
    clip
        Largest weight of a slot.
    """
    ones, none = np.ones(len(score)), np.zeros(len(score), np.int64)
    fair = Scored(score, probability, happened, seen.lists, ones, seen.position)
    looked = examination(seen, happened)
    weight = np.minimum(1 / np.maximum(seen.chance * looked[seen.position], 1e-9), clip)
    several = _of_several(seen)
    made = {
        "position_fixed": fair,
        "inverse_propensity": Scored(score, probability, happened, seen.lists, weight, seen.position),
        "explored": _where(Scored(score, probability, happened, seen.lists, ones, none), seen.explored),
        "as_logged": Scored(as_logged, as_logged, happened, seen.lists, ones, none),
    }
    out = {name: _view(one) for name, one in made.items()}
    out["inverse_propensity"]["examination"] = None if (looked == 1).all() else looked.tolist()
    alone = _where(made["explored"], several[seen.explored])  # a list of one slot has no order
    for name, value in figures(alone).items():
        if name in ("list_auc", "ndcg_at_10", "mrr"):
            out["explored"]["figures"][name] = value
    return out


def _of_several(seen: Held) -> Bool:
    """Return which slots are on a list with at least two explored ones."""
    _, of = np.unique(seen.lists, return_inverse=True)
    counts = np.bincount(of, seen.explored) if len(of) else np.zeros(0)
    return counts[of] > 1


def _where(of: Scored, mask: Bool) -> Scored:
    return Scored(*(getattr(of, name)[mask] for name in Scored.__slots__))


def _view(of: Scored) -> dict[str, Any]:
    return {
        "slots": len(of.score),
        "positives": int(of.happened.sum()),
        "lists": len(np.unique(of.lists)),
        "figures": figures(of),
    }


def examination(seen: Held, happened: Bool) -> F64:
    """Return how much each position is looked at, the most seen 1, float64 ``(positions,)``.

    By chance, items are as good at every position: their rates differ by the position alone (Joachims et al.,
    WSDM 2017). All are 1 while fewer than ``LEAST_EXPLORED`` explored slots were clicked.
    """
    n = int(seen.position.max(initial=0)) + 1
    at, hit = seen.position[seen.explored], happened[seen.explored]
    if hit.sum() < LEAST_EXPLORED:
        return np.ones(n)
    mean = hit.mean()
    rate = (np.bincount(at[hit], minlength=n) + 20 * mean) / (np.bincount(at, minlength=n) + 20)
    out: F64 = np.minimum(1.0, rate / rate.max())
    return out


def reliability(probability: F64, happened: Bool) -> list[dict[str, float]]:
    """Return the points of the reliability curve: bins with equally many slots, the lowest first."""
    parts = np.array_split(np.argsort(probability, kind="stable"), POINTS)
    return [
        {"n": len(p), "predicted": float(probability[p].mean()), "actual": float(happened[p].mean())}
        for p in parts
        if len(p)
    ]


def by_position(seen: Held, happened: Bool, probability: F64) -> list[dict[str, Any]]:
    """Return, for each position, mean prediction and rate, and the rate of its explored slots."""
    rows: list[dict[str, Any]] = []
    for k in range(min(POSITIONS, int(seen.position.max(initial=-1)) + 1)):
        here = seen.position == k
        free = here & seen.explored
        rows.append(
            {
                "position": k,
                "n": int(here.sum()),
                "predicted": _mean(probability[here]),
                "actual": _mean(happened[here]),
                "explored_n": int(free.sum()),
                "explored_actual": _mean(happened[free]),
            }
        )
    return rows


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def report_of(
    found: Examples,
    probe: Ranker,
    scores: Mapping[str, F64],
    probabilities: Mapping[str, F64],
    *,
    clip: float,
    params: RankerParams,
    ablate: bool = False,
) -> dict[str, Any]:
    """Return what is measured on the held-out slots, by objective.

    Parameters
    ----------
    probe
        The ranker trained without them.
    scores, probabilities
        Of all held-out slots, by objective, without knowledge of the position: raw, and calibrated.
    clip
        Largest weight of a slot.
    ablate
        Whether to train a ranker without each group of features.
    """
    seen = held(found)
    logged = _as_logged(probe, seen.part)
    out: dict[str, Any] = {"objectives": {}, "ablation": None}
    for name in scores:
        happened = seen.part.happened[:, OBJECTIVES.index(name)]
        score, p = scores[name][seen.chosen], probabilities[name][seen.chosen]
        out["objectives"][name] = {
            "views": views(seen, happened, score, p, logged[name], clip),
            "reliability": reliability(p, happened),
            "by_position": by_position(seen, happened, p),
        }
    if ablate and CLICK in scores:
        score = scores[CLICK][seen.chosen]
        fair = Scored(score, score, seen.part.clicked, seen.lists, np.ones(len(score)), seen.position)
        out["ablation"] = ablation(found.train.where(found.older), seen.part, params, fair)
    return out


def _as_logged(probe: Ranker, part: Part) -> dict[str, F64]:
    """Return the scores of slots where their positions are known, by objective."""
    out: dict[str, list[F64]] = {one.name: [np.zeros(0)] for one in probe.objectives}
    for x in part.features().batches():
        for name, score in probe.by_objective(x).items():
            out[name].append(score)
    return {name: np.concatenate(parts) for name, parts in out.items()}


def described(found: Examples, made: Ranker, params: RankerParams, seconds: float) -> dict[str, Any]:
    """Return what was trained on, how, and what the ranker goes by."""
    return {
        "rows": found.count,
        "positives": found.positives,
        "trained_on": len(found.train),
        "held_out": len(found.newest),
        "held_out_from_ts": int(found.newest_ts.min()) if len(found.newest_ts) else None,
        "until_ts": int(found.newest_ts.max()) if len(found.newest_ts) else None,
        "bots": found.bots,
        "seconds": round(seconds, 2),
        "importance": made.importance(),
        "weights": {one.name: one.weight for one in made.objectives},
        "calibration": {one.name: one.calibration.kind for one in made.objectives},
        "parameters": asdict(params),
        "features": {"version": SPEC.version, "count": len(SPEC)},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("headrace", "lightgbm", "numpy")},
        },
    }


def to_json(report: Mapping[str, Any]) -> bytes:
    """Return a report as JSON; what is not known is null."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)
