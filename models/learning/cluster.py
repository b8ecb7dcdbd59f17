"""LightGBM on a Dask cluster, for a training that one machine is too small for: ``lightgbm.dask``.

The coordinator chooses the examples as it does for itself (`training_set`: 40 bytes each). Features are read
by the workers, each its own row groups of the log, which it must reach under the same path or URL. Labels and
weights are sent to them. The parts take turns with the workers: so each of them has rows of all times.

Dask sends pickled objects between its own processes: the cluster must be trusted like the broker.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning.places import place
from headrace.models.learning.ranker import F32, RankerParams, lightgbm_params
from headrace.models.learning.training_set import U32, LoggedFeatures, Part, Piece
from headrace.streams.errors import HeadraceError, UnavailableError

#: Longest wait for the scheduler, and for its first worker, s.
WAIT_S = 20
#: Time between two looks whether a worker is lost, s; and longest wait of workers for each other, minutes.
LOOK_S, _SILENT_MIN = 2.0, 10
#: Parts of the rows for each worker, at least.
_PARTS = 4
#: The names that LightGBM's scikit-learn interface has for parameters. It has defaults for these.
_NAMES = {
    "num_leaves": "num_leaves",
    "min_data_in_leaf": "min_child_samples",
    "seed": "random_state",
    "feature_fraction": "colsample_bytree",
    "bagging_fraction": "subsample",
    "bagging_freq": "subsample_freq",
    "lambda_l1": "reg_alpha",
    "lambda_l2": "reg_lambda",
}


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a scheduler that has a worker.

    Raises
    ------
    UnavailableError
        It does not answer, or has no worker.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=WAIT_S)
    except (OSError, ValueError) as exc:  # TimeoutError is an OSError
        raise UnavailableError(f"no Dask scheduler answers at {address}: {exc}") from exc
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError as exc:
            raise UnavailableError(f"the Dask cluster at {address} has no workers") from exc
        yield client


def train_each(
    address: str, part: Part, ys: Sequence[F32], params: RankerParams, weight: F32 | None = None
) -> list[str]:
    """Train a booster for each of several labels ``(n,)`` on the same examples; see ``ranker.train_each``.

    ``params.threads`` does not count: each worker uses its own number of threads.

    Raises
    ------
    UnavailableError
        The scheduler does not answer, or has no worker.
    HeadraceError
        A worker cannot read the log, or failed.
    """
    from lightgbm.dask import DaskLGBMRegressor

    lost: list[str] = []
    with connected(address) as client:
        try:
            parts = Parts(client, part)
            with _watched(client, parts.workers) as lost:
                x = parts.features()
                loads = None if weight is None else parts.sent(weight)
                out = []
                for y in ys:
                    # The regressor takes labels as they are, whatever the objective; the booster is the same.
                    model = DaskLGBMRegressor(n_estimators=params.trees, client=client, **_parameters(params))
                    with warnings.catch_warnings():
                        warnings.filterwarnings(
                            "ignore", "Parameter n_jobs will be ignored"
                        )  # so it should be
                        model.fit(x, parts.sent(y), sample_weight=loads, feature_name=list(SPEC.names))
                    out.append(model.booster_.model_to_string())
        except (Exception, asyncio.CancelledError) as exc:
            why = f"lost {', '.join(lost)}" if lost else repr(exc)
            raise HeadraceError(f"the training on the Dask cluster at {address} failed: {why}") from exc
    return out


@contextmanager
def _watched(client: Any, workers: Sequence[str]) -> Iterator[list[str]]:
    """Close the client when a worker is lost: Dask would wait for its rows for ever.

    Returns
    -------
    What was lost; empty while all are there.
    """
    lost: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        over = False
        while not over:
            over = ended.wait(LOOK_S)  # there is a last look
            try:
                lost.extend(sorted(set(workers) - client.nthreads().keys()))
            except (OSError, RuntimeError, ValueError) as exc:
                lost.append(f"the scheduler ({exc})")
            if lost:
                client.close()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()


def _parameters(params: RankerParams) -> dict[str, Any]:
    given = lightgbm_params(params)
    del given["num_threads"]
    return {_NAMES.get(name, name): value for name, value in given.items()} | {"time_out": _SILENT_MIN}


class Parts:
    """The rows of a training in parts, each on one worker.

    Parameters
    ----------
    client
        Of a cluster with workers.
    part
        The examples.
    """

    def __init__(self, client: Any, part: Part) -> None:
        self._client, self._part = client, part
        workers = sorted(client.nthreads())
        most = min(example_log.GROUP_ROWS, -(-len(part) // (_PARTS * len(workers))))
        self.spans = list(spans(part, most))
        self.workers = [workers[i % len(workers)] for i in range(len(self.spans))]

    def features(self) -> Any:
        """Return the features as a Dask array, float32 ``(n, len(SPEC))``, read and in the workers' memory.

        Raises
        ------
        OSError
            A worker cannot read the log.
        """
        from distributed import wait

        futures = []
        for (pieces, first_row, where), worker in zip(self.spans, self.workers, strict=True):
            named = [(str(piece.path), piece.group, piece.rows) for piece in pieces]
            rows = self._part.rows[where] - np.uint32(first_row)
            futures.append(
                self._client.submit(
                    read, named, rows, workers=[worker], pure=False, allow_other_workers=False
                )
            )
        wait(futures)
        for future in futures:
            if future.status != "finished":
                future.result()
        return self._array(futures, np.float32, len(SPEC))

    def sent(self, values: F32) -> Any:
        """Send values ``(n,)`` to the workers that have the rows; return them as a Dask array."""
        futures = [
            self._client.scatter(values[where], workers=[worker], hash=False)
            for (_, _, where), worker in zip(self.spans, self.workers, strict=True)
        ]
        return self._array(futures, values.dtype)

    def _array(self, futures: list[Any], dtype: Any, *width: int) -> Any:
        import dask.array as da
        from dask import delayed

        sizes = [where.stop - where.start for _, _, where in self.spans]
        return da.concatenate(
            [da.from_delayed(delayed(f), (n, *width), dtype) for f, n in zip(futures, sizes, strict=True)]
        )


def spans(part: Part, most: int) -> Iterator[tuple[list[Piece], int, slice]]:
    """Yield examples of row groups that follow each other: about ``most`` at once, or one row group.

    Returns
    -------
    The row groups, the number of their first row among all rows, and which examples are in them.
    """
    bounds = np.cumsum([0, *(piece.rows for piece in part.pieces)])
    places = np.searchsorted(part.rows, bounds).tolist()
    begin = 0
    for end in range(1, len(bounds)):
        enough = places[end] - places[begin] >= most or end == len(bounds) - 1
        if enough and places[end] > places[begin]:
            yield part.pieces[begin:end], int(bounds[begin]), slice(places[begin], places[end])
            begin = end


def read(pieces: Sequence[tuple[str, int, int]], rows: U32) -> F32:
    """Return the features of some rows of some row groups; a worker runs it.

    Parameters
    ----------
    pieces
        Path or URL, number in the file and size of each row group.
    rows
        Numbers among the rows of all of them ``(n,)``, ascending.
    """
    found = [Piece(place(path), group, size) for path, group, size in pieces]
    out: F32 = LoggedFeatures(found, rows)[:]
    return out
