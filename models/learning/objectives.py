"""What the ranker foresees: click, long view, like. One booster each; the score is their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.learning.calibration import Calibration
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.schemas import Example

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: The kind of an artefact with these.
KIND_OF_OBJECTIVES = "lightgbm-objectives"
CLICK, LONG_VIEW, LIKE = "click", "long_view", "like"
OBJECTIVES = (CLICK, LONG_VIEW, LIKE)

#: A view is long when this share of the item was watched; where it has no duration, when it took this long.
LONG_SHARE, LONG_MS = 0.5, 30_000


class Objective(msgspec.Struct, frozen=True):
    """One objective of a ranker.

    Attributes
    ----------
    weight
        Its share of the score.
    text
        The booster, in LightGBM's text format.
    calibration
        From the output of the booster to a probability.
    """

    name: str
    weight: float
    text: str
    calibration: Calibration = Calibration()


class _Body(msgspec.Struct):
    objectives: list[Objective]
    left_out: dict[str, int] = {}


def labels(clicked: Bool, liked: Bool, dwell_ms: I64, duration_ms: I64) -> Bool:
    """Return what happened to examples by objective, bool ``(n, len(OBJECTIVES))``.

    Parameters
    ----------
    clicked, liked
        bool ``(n,)``
    dwell_ms
        Longest view, ms ``(n,)``.
    duration_ms
        Duration of the item, ms ``(n,)``; 0 where it has none.
    """
    wanted = np.where(duration_ms > 0, np.maximum(1, LONG_SHARE * duration_ms), LONG_MS)
    return np.stack([clicked, dwell_ms >= wanted, liked], 1)


def labels_of(examples: Sequence[Example]) -> Bool:
    """Return what happened to examples by objective, bool ``(n, len(OBJECTIVES))``; see ``labels``."""
    return labels(
        np.array([e.clicked for e in examples], bool),
        np.array([e.liked for e in examples], bool),
        np.array([e.dwell_ms for e in examples], np.int64),
        np.array([e.duration_ms for e in examples], np.int64),
    )


def about_clicks(happened: Bool) -> Bool:
    """Return which examples tell something of clicks, bool ``(n,)``, where outcomes are not waited for.

    There (`early_join`), what happened to a slot later comes alone: a long view is not "not clicked".
    """
    out: Bool = happened[:, OBJECTIVES.index(CLICK)] | ~happened.any(1)
    return out


def long_from(duration_ms: int) -> float:
    """Return how long a view of one item takes at least, ms, to be a long one; see ``labels``."""
    return max(1, LONG_SHARE * duration_ms) if duration_ms > 0 else LONG_MS


def shares(
    weights: Mapping[str, float], positives: Mapping[str, int], rows: int, least: int
) -> dict[str, float]:
    """Return the objectives that can be learnt, with their weights; these sum to 1.

    One with fewer than ``least`` positives among ``rows`` examples, or with nothing else, is left out: its
    weight goes to the others.
    """
    used = {
        name: weights.get(name, 0.0)
        for name in OBJECTIVES
        if weights.get(name, 0.0) > 0 and max(1, least) <= positives[name] < rows
    }
    total = sum(used.values())
    return {name: weight / total for name, weight in used.items()}


def added(each: Sequence[F64]) -> F64:
    """Return the sum of arrays ``(n,)``, at least one, float64 ``(n,)``: one after the other."""
    return sum(each[1:], each[0])


def figure_name(objective: str, what: str) -> str:
    """Return under which name a figure of an objective is published; of clicks, that of the figure itself."""
    return what if objective == CLICK else f"{objective}_{what}"


def count_name(objective: str) -> str:
    """Return under which name the number of positives of an objective is published: ``long_views``."""
    return f"{objective}s"


def to_body(objectives: Sequence[Objective], left_out: Mapping[str, int]) -> bytes:
    """Return the body of an artefact; ``left_out`` has the positives of what could not be learnt."""
    return msgspec.json.encode(_Body(list(objectives), dict(left_out)))


def from_body(body: bytes) -> list[Objective]:
    """Return the objectives in the body of an artefact; raise ``ArtefactError`` when they do not fit."""
    try:
        found = msgspec.json.decode(body, type=_Body).objectives
    except UNDECODABLE as exc:
        raise ArtefactError(f"not the objectives of a ranker: {exc}") from exc
    names = [one.name for one in found]
    if not names or len(set(names)) < len(names) or not set(names) <= set(OBJECTIVES):
        raise ArtefactError(f"a ranker has some of the objectives {list(OBJECTIVES)}, each once, not {names}")
    weights = np.array([one.weight for one in found])
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ArtefactError(f"the weights of objectives are positive numbers, not {weights.tolist()}")
    if wrong := [one.name for one in found if not one.calibration.sound()]:
        raise ArtefactError(f"the calibration of {wrong[0]} is not a curve that rises")
    return found
