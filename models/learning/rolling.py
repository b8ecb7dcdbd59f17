"""How good probabilities have been lately: AUC, log-loss, calibration; and whether that has changed."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Examples that the figures look back on.
WINDOW = 5000


def losses(p: npt.NDArray[np.floating], clicked: Bool, *, early: bool = False) -> F64:
    """Return the log-loss of each prediction, float64 ``(n,)``.

    ``early``: a clicked example has been counted before, as not clicked; that loss is taken off again.
    """
    p = np.clip(p.astype(np.float64), 1e-6, 1 - 1e-6)
    out: F64 = -np.log(np.where(clicked, p, 1 - p))
    return np.where(clicked, out + np.log(1 - p), out) if early else out


class Sums:
    """Sums over about the last ``WINDOW`` examples: a batch leaves as a whole."""

    def __init__(self, width: int) -> None:
        self._batches: deque[tuple[int, F64]] = deque()
        self._total = np.zeros(width)
        self.count = 0

    def add(self, n: int, sums: F64) -> None:
        """Add the sums of a batch of ``n`` examples, float64 ``(width,)``."""
        self._batches.append((n, sums))
        self.count += n
        while self._batches and self.count - self._batches[0][0] >= WINDOW:
            self.count -= self._batches.popleft()[0]
        self._total = np.sum([s for _, s in self._batches], 0)

    def total(self) -> F64:
        """Return the sums, float64 ``(width,)``."""
        return self._total


class Rolling:
    """Rolling quality, with river's AUC and its ADWIN on the log-loss (Bifet and Gavaldà, SDM 2007).

    Attributes
    ----------
    drifts
        How often ADWIN has found that the mean loss changed.
    """

    def __init__(self) -> None:
        from river import drift, metrics  # takes a second

        self._auc = metrics.RollingROCAUC(window_size=WINDOW)
        self._adwin = drift.ADWIN()
        self._sums = Sums(3)
        self._clicks = 0
        self.drifts = 0

    def add(self, p: npt.NDArray[np.floating], clicked: Bool, *, early: bool = False) -> None:
        """Note predictions ``(n,)``, made before their outcomes were learnt; ``early``: see ``losses``."""
        loss = losses(p, clicked, early=early)
        once = ~clicked if early else np.ones(len(p), bool)
        self._clicks += int(clicked.sum())
        self._sums.add(int(once.sum()), np.array([loss.sum(), p[once].sum(), clicked.sum()], np.float64))
        for truth, score in zip(clicked.tolist(), p.tolist(), strict=True):
            self._auc.update(truth, score)
        for value in loss.tolist():
            self._adwin.update(value)
            self.drifts += self._adwin.drift_detected

    def figures(self) -> dict[str, float]:
        """Return AUC, log-loss, calibration (predicted clicks / clicks; 1 without any) and drifts."""
        loss, predicted, clicks = self._sums.total().tolist()
        area = float(self._auc.get()) if self._clicks else 0.5
        return {
            "auc": 0.5 if math.isnan(area) else area,
            "log_loss": loss / self._sums.count if self._sums.count else 0.0,
            "calibration": predicted / clicks if clicks else 1.0,
            "drifts": float(self.drifts),
        }
