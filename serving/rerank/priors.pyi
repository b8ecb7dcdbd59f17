import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

def counts_of(
    totals: npt.NDArray[np.uint32],
    more: npt.NDArray[np.uint8],
    click: int,
    shown: int,
    published: npt.NDArray[np.int64],
    now: int,
    fresh_ms: int,
    fresh_shown: float,
    tail_clicks: float,
) -> tuple[F64, F64, Mask, Mask]:
    """Return clicks and shown slots of items, which of them are fresh, and which of the long tail.

    Parameters
    ----------
    totals, more
        All-time totals by metric: the lower 32 bits and the upper 8, ``(n, metrics)`` each.
    click, shown
        The columns of the two.
    published
        When, ms, ``(n,)``.
    now, fresh_ms, fresh_shown, tail_clicks
        An item is fresh for so long, ms, until it was shown so often; of the long tail with fewer clicks.

    Returns
    -------
    float64 ``(n,)`` twice, bool ``(n,)`` twice.

    Raises
    ------
    ValueError
        The columns have different lengths.
    IndexError
        There is no such metric.
    """

def prior_rates(
    clicks: F64, shown: F64, category: U64, creator: U64, wanted: Mask, begin: tuple[float, float]
) -> F64:
    """Return the click rates of items as their categories and creators suggest them, float64 ``(m,)``.

    Parameters
    ----------
    clicks, shown
        Of each item, whole numbers, ``(m,)``, not negative. Its own do not count for it, only those of the
        others.
    category, creator
        Hashed ids, uint64 ``(m,)``; 0: none, which suggests nothing.
    wanted
        Which items are asked for, bool ``(m,)``; the others get 0.
    begin
        The belief with which everything begins: clicks, and slots without one.

    Raises
    ------
    ValueError
        The columns have different lengths.
    """
