"""The lists for the training of a ranker, in memory. (The trainer reads them from the Parquet log.)"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


class TrainingLog:
    """The newest ``keep`` lists."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lists: list[tuple[F32, int]] = []

    def __len__(self) -> int:
        return len(self._lists)

    def add(self, features: F32, clicked: int) -> None:
        """Remember a list: float32 ``(k, len(SPEC))`` and which row was clicked."""
        self._lists.append((features, clicked))
        if len(self._lists) > self._keep * 1.2:
            self._lists = self._lists[-self._keep :]

    def arrays(self) -> tuple[F32, F32, I64]:
        """Return the training data for ``lambdarank``.

        Returns
        -------
        Features, float32 ``(n, len(SPEC))``; labels, float32 ``(n,)``, 1 for the clicked rows; the number of
        rows of each list, int64 ``(n_lists,)``.
        """
        lists = self._lists[-self._keep :]
        group = np.array([len(f) for f, _ in lists], np.int64)
        x = np.concatenate([f for f, _ in lists])
        y = np.zeros(len(x), np.float32)
        y[np.r_[0, np.cumsum(group)[:-1]] + np.array([c for _, c in lists])] = 1
        return x, y, group
