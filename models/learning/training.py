"""Train the ranker from the Parquet log: split by time, train, measure, return the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning import ranker
from headrace.models.learning.evaluation import evaluate
from headrace.models.learning.ranker import Ranker, RankerParams

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: The newest share of the log is held out to measure on.
HOLD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained ranker, and the metrics on the newest examples of a ranker trained without them."""

    text: str
    rows: int
    clicks: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Examples:
    """Examples, oldest first."""

    x: F32  # (n, len(SPEC))
    clicked: Bool  # (n,)
    group: I64  # (n,), the number of the list each was shown on


def train_from_log(
    data_dir: Path, params: RankerParams, *, min_rows: int, min_clicks: int
) -> TrainResult | None:
    """Train on the log; None while it has too few examples.

    The examples carry the features that were logged when the list was shown; nothing is recomputed. Two
    examples of one shown slot (a join that was replayed after a crash) count once.
    """
    table = example_log.read(data_dir, ["user_id", "request_id", "position", "clicked", "features"])
    if table.num_rows < min_rows:
        return None
    examples = _once_a_slot(table)
    rows, clicks = len(examples.x), int(examples.clicked.sum())
    if rows < min_rows or clicks < min_clicks:
        return None
    metrics = {"rows": float(rows), "clicks": float(clicks), **_measured(examples, params)}
    text = ranker.train(examples.x, examples.clicked.astype(np.float32), params)
    return TrainResult(text, rows, clicks, metrics)


def _once_a_slot(table: pa.Table) -> _Examples:
    """Return the examples of a log table, one for each shown slot."""
    # The key of a list is user, request and time: two callers may use the same request id.
    lists = list(
        zip(*(table.column(name).to_pylist() for name in ("user_id", "request_id", "ts")), strict=True)
    )
    slots = zip(lists, table.column("position").to_pylist(), strict=True)
    first_of_slot: dict[object, int] = {}
    for i, slot in enumerate(slots):
        first_of_slot.setdefault(slot, i)
    once = np.fromiter(first_of_slot.values(), np.int64)
    number = {name: i for i, name in enumerate(dict.fromkeys(lists))}
    return _Examples(
        example_log.features_of(table)[once],
        table.column("clicked").to_numpy(zero_copy_only=False)[once],
        np.array([number[lists[i]] for i in once], np.int64),
    )


def _measured(examples: _Examples, params: RankerParams) -> dict[str, float]:
    """Train on all but the newest examples and evaluate on those; empty when either part lacks a class."""
    x, clicked, group = examples.x, examples.clicked, examples.group
    cut = int(len(x) * (1 - HOLD_OUT))
    if not clicked[:cut].any() or not 0 < clicked[cut:].sum() < len(x) - cut:
        return {}
    text = ranker.train(x[:cut], clicked[:cut].astype(np.float32), params)
    probe = Ranker(text, SPEC.names, "probe")
    return evaluate(probe.predict(x[cut:]), clicked[cut:], group[cut:])
