"""Two bits for each coordinate of a row: enough to tell which rows of a list are worth reading.

Rows lie in lists around centres. A row is its centre ``c`` and the rest ``r``, turned by a fixed rotation.
The code ``b`` has 3, 1, -1 or -3 for each coordinate of ``r``: its sign, and whether it is larger than
their root mean square. Kept are the code (16 bytes) and the size ``|r|^2 / <r, b>``. Then
``<q, c> + size * <q, b>`` estimates the inner product with a query ``q``. That is RaBitQ with two bits (Gao
and others, SIGMOD 2024 and 2025), under one rotation. For a query of length 1 the estimate is off by about
``.65 * size``. So it can be said of a row, without its 64 bytes, that it is not among the best.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.serving.index.layout import Layout
from headrace.serving.index.quantised import Quantised

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

#: Rows whose signs lie together, byte by byte.
TOGETHER = 32
_BLOCK = 128 * TOGETHER
#: Signs of the coordinates before they are mixed, three times: bits of the golden ratio, of pi and of e.
_MIXED = (0x9E3779B97F4A7C15, 0x243F6A8885A308D3, 0xB7E151628AED2A6A)


def _rotation() -> F32:
    """Return a rotation, float32 ``(DIM, DIM)``: signs and Hadamard's matrix, three times.

    Once would leave vectors alone that are sums of few of its rows.
    """
    hadamard = np.ones((1, 1))
    while len(hadamard) < DIM:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    out = np.eye(DIM)
    for bits in _MIXED:  # exact: whole numbers, and powers of 2
        out = hadamard @ (np.array([1 - 2 * (bits >> j & 1) for j in range(DIM)])[:, None] * out)
    turns: F32 = (out / DIM**1.5).astype(np.float32)
    return turns


_ROTATION = _rotation()


def turned(vectors: F32) -> F32:
    """Return vectors under the rotation, float32 ``(..., DIM)``."""
    out: F32 = vectors @ _ROTATION.T
    return out


class Signs(NamedTuple):
    """Two bits for each coordinate of rows.

    Attributes
    ----------
    blocks
        uint8 ``(ceil(n / 32), 2, 8, 32)``: byte ``t`` of row ``32 * i + j`` is ``[i, :, t, j]``. Its bit
        ``s`` says of coordinate ``8 * t + s`` whether it is positive; the second byte, whether it is positive
        and far from 0, or neither.
    sizes
        What the product of the codes is multiplied by, float32 ``(32 * ceil(n / 32),)``.
    """

    blocks: U8
    sizes: F32

    @classmethod
    def of(cls, vectors: Quantised, layout: Layout) -> Signs:
        """Return the signs of rows that lie in lists."""
        parts = list(signs_of(vectors, layout))
        none = cls(np.zeros((0, 2, DIM // 8, TOGETHER), np.uint8), np.zeros(0, np.float32))
        return cls(*map(np.concatenate, zip(none, *parts, strict=True)))


def signs_of(vectors: Quantised, layout: Layout) -> Iterator[Signs]:
    """Yield the signs of rows that lie in lists, in blocks, so that other threads get their turn."""
    n, centres = len(vectors.scale), layout.directions.vectors(np.arange(len(layout.centroids)))
    for first in range(0, n, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, n))
        lists = np.searchsorted(layout.starts, rows, "right") - 1
        yield _coded(turned(vectors.vectors(rows) - centres[lists]))


def _coded(rest: F32) -> Signs:
    """Return the signs of what rows differ from their centres, float32 ``(n, DIM)``."""
    n, room = len(rest), -(-len(rest) // TOGETHER) * TOGETHER
    distance, squares = np.abs(rest), (rest * rest).sum(axis=1)
    far = distance > np.sqrt(squares / DIM)[:, None]
    length = (distance * np.where(far, np.float32(3), np.float32(1))).sum(axis=1)
    sizes, bits = np.zeros(room, np.float32), np.zeros((room, 2, DIM // 8), np.uint8)
    np.divide(squares, length, out=sizes[:n], where=length > 0)
    positive = rest > 0
    bits[:n, 0] = np.packbits(positive, axis=1, bitorder="little")
    bits[:n, 1] = np.packbits(positive == far, axis=1, bitorder="little")
    return Signs(np.ascontiguousarray(bits.reshape(-1, TOGETHER, 2, DIM // 8).transpose(0, 2, 3, 1)), sizes)
