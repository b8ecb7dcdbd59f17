"""Checks what a part returns, inside its guard: a wrong answer is a failure of that part alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]

_KEYS, _MASK = np.dtype(np.uint64), np.dtype(np.bool_)  # a dtype is compared with one faster than with a type


def lists(found: Sequence[U64]) -> list[U64]:
    """Return the lists of a source; TypeError unless each is an array of keys, uint64 ``(n,)``."""
    out = list(found)
    for keys in out:
        if not (isinstance(keys, np.ndarray) and keys.dtype == _KEYS and keys.ndim == 1):
            raise TypeError(f"a source proposes arrays of keys, uint64 (n,), not {_said(keys)}")
    return out


def keys(found: Sequence[int] | U64) -> U64:
    """Return what rests, uint64 ``(n,)``; an error when something is no key."""
    if isinstance(found, np.ndarray):
        return lists([found])[0]
    return np.array(found, np.uint64) if len(found) else np.zeros(0, np.uint64)


def mask(keep: Bool, n: int) -> Bool:
    """Return what a filter keeps of ``n`` items; TypeError unless it is bool ``(n,)``."""
    if not (isinstance(keep, np.ndarray) and keep.dtype == _MASK and keep.shape == (n,)):
        raise TypeError(f"a filter returns bool ({n},), not {_said(keep)}")
    return keep


def scores(found: npt.NDArray[np.floating], n: int) -> F64:
    """Return the scores of ``n`` items, float64; an error unless they are ``n`` finite numbers."""
    out: F64 = np.asarray(found, np.float64)
    if out.shape != (n,) or not np.isfinite(out).all():
        raise ValueError(f"a scorer returns ({n},) finite numbers, not {_said(found)}")
    return out


def _said(found: object) -> str:
    if not isinstance(found, np.ndarray):
        return type(found).__name__
    return f"{found.dtype} {found.shape}"
