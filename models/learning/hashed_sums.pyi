"""Sums of hashed terms, compiled; see ``hashed.py``."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

def term_sums(table: F32, users: U64, items: U64, countries: U64, devices: U64, bits: int) -> F32:
    """Return ``table[Ids(users, items, countries, devices).terms()].sum(1)``, float32 ``(n,)``.

    Parameters
    ----------
    table
        float32 ``(2 ** bits,)``.
    users, items, countries, devices
        uint64 ``(n,)``; of all but the items also ``(1,)``: all the same.

    Raises
    ------
    ValueError
        The columns do not fit together, or the table has another size.
    """
