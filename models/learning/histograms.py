"""Drift: the distribution of every feature as trained, and how far what is served now has moved from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning.log_files import durable_file
from headrace.models.learning.places import Place
from headrace.streams.messages.codec import UNDECODABLE

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: The file beside a ranker in the registry.
FILE = "features.json"
#: Bins with about equally many of the trained values.
BINS = 10
#: A share is at least this in the formula: an empty bin must not make it infinite.
LEAST_SHARE = 1e-4
#: From here on a distribution is called shifted, and very different.
SHIFTED, OTHER = 0.1, 0.25
#: It follows the clock, and tells nothing of drift.
LEFT_OUT = frozenset({"hour", "local_hour", "weekday"})


class Histogram(msgspec.Struct, frozen=True):
    """The distribution of one feature.

    Attributes
    ----------
    edges
        Ascending. Bin i has the values above ``edges[i - 1]``, up to ``edges[i]``; the first and the last bin
        have what is below the least and above the largest trained value.
    shares
        Of each bin; one more than edges.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


class Histograms(msgspec.Struct, frozen=True):
    """The distributions of all features of a training.

    Attributes
    ----------
    rows
        Number of shown slots they were made from.
    features
        By name.
    """

    rows: int
    features: dict[str, Histogram]


class Drift(msgspec.Struct, frozen=True):
    """How far a feature has moved. ``trained`` and ``served`` are the shares of the same bins."""

    feature: str
    psi: float
    trained: tuple[float, ...]
    served: tuple[float, ...]


def histograms(x: F32) -> Histograms:
    """Return the distributions of feature rows ``(n, len(SPEC))``; none without rows."""
    found = {} if not len(x) else {name: _histogram(x[:, i]) for i, name in enumerate(SPEC.names)}
    return Histograms(len(x), found)


def _histogram(values: F32) -> Histogram:
    inner = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")
    below = np.nextafter(values.min(), np.float32(-np.inf))
    edges = np.unique(np.r_[below, inner, values.max()].astype(np.float32))
    return Histogram(tuple(edges.tolist()), tuple(_shares(values, edges).tolist()))


def _shares(values: F32, edges: F32) -> F64:
    bins = np.searchsorted(edges, values, side="left")
    return np.bincount(bins, minlength=len(edges) + 1) / max(1, len(values))


def psi(trained: Sequence[float], served: Sequence[float]) -> float:
    """Return the population stability index of two distributions over the same bins.

        PSI = sum((served - trained) * ln(served / trained))

    It is the symmetric divergence of Jeffreys (1946). Below .1 nothing much has changed, above .25 very much
    (Siddiqi, Credit Risk Scorecards, 2006). Of n rows drawn from the same distribution it is about
    (bins - 1) * (1/n + 1/m) (Yurdakul and Naranjo, Journal of Risk Model Validation, 2020).
    """
    a = np.maximum(np.asarray(trained, np.float64), LEAST_SHARE)
    b = np.maximum(np.asarray(served, np.float64), LEAST_SHARE)
    return float(((b - a) * np.log(b / a)).sum())


def drift(trained: Histograms, x: F32) -> list[Drift]:
    """Return how far each feature of rows ``(n, len(SPEC))`` has moved, the farthest first.

    Features without a histogram, and those that follow the clock, are left out.
    """
    columns: Mapping[str, F32] = dict(zip(SPEC.names, x.T, strict=True))
    found = []
    for name, one in trained.features.items():
        if name in columns and name not in LEFT_OUT and len(x):
            served = tuple(_shares(columns[name], np.array(one.edges, np.float32)).tolist())
            found.append(Drift(name, psi(one.shares, served), one.shares, served))
    return sorted(found, key=lambda d: (-d.psi, d.feature))


def save(folder: Place, found: Histograms) -> None:
    """Write the distributions beside a ranker; raise ``OSError`` when the disk does not take them."""
    with durable_file(folder / FILE) as handle:
        handle.write(msgspec.json.encode(found))


def load(folder: Place) -> Histograms | None:
    """Return the distributions beside a ranker; None where there are none that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Histograms)
    except (OSError, *UNDECODABLE):
        return None
