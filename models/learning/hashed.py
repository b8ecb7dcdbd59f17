"""Hashed terms: what is learnt of users and items by their ids, in a table whose size never changes.

Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009: ids that fall on the same
slot share its weight. Reading adds nothing to the table.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.learning.hashed_sums import term_sums
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Example

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

#: Slots of a table, as a power of 2: 64 kB when published. More of them changed no AUC in the third digit.
BITS = 15
SLOTS = 1 << BITS
#: Weights are published within these bounds.
MOST = 4.0

_ODD = [
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)
]


@dataclass(frozen=True, slots=True)
class Ids:
    """Whom each row is shown to, and what: keys (``ids.hash64``), uint64 ``(n,)``; ``(1,)``: all the same."""

    users: U64
    items: U64
    countries: U64
    devices: U64

    @classmethod
    def of_request(cls, user_id: str, country: str, device: str, items: U64) -> Ids:
        """Return the ids of the candidates ``(n,)`` of one request; its context has country and device."""
        user, place, machine = (np.array([hash64(t)], np.uint64) for t in (user_id, country, device))
        return cls(user, items, place, machine)

    @classmethod
    def of_examples(cls, examples: list[Example]) -> Ids:
        """Return the ids of examples ``(n,)``."""
        return cls(
            hash_many([e.user_id for e in examples]),
            hash_many([e.item_id for e in examples]),
            hash_many([e.country for e in examples]),
            hash_many([e.device for e in examples]),
        )

    def where(self, keep: npt.NDArray[np.bool_]) -> Ids:
        """Return the ids of the rows chosen by a mask ``(n,)``."""
        return Ids(self.users[keep], self.items[keep], self.countries[keep], self.devices[keep])

    def of_items(self, places: npt.NDArray[np.int64]) -> Ids:
        """Return the ids of the candidates at some places; those of the request are the same for all."""
        return Ids(self.users, self.items[places], self.countries, self.devices)

    def terms(self) -> U32:
        """Return the slots of user, item, item in the country, item on the device: uint32 ``(n, 4)``."""
        crossed = _mixed(self.items + _ODD[0])
        return _slots(
            self.users + _ODD[1],
            self.items + _ODD[2],
            crossed ^ self.countries,
            crossed ^ (self.devices + _ODD[3]),
        )

    def sums(self, table: F32) -> F32:
        """Return the sums of the weights at ``terms()`` in a table ``(SLOTS,)``, float32 ``(n,)``."""
        return term_sums(table, self.users, self.items, self.countries, self.devices, BITS)

    def pair(self) -> U32:
        """Return the slots of user and item: uint32 ``(n, 2)``."""
        return _slots(self.users + _ODD[1], self.items + _ODD[2])


def _slots(*keys: U64) -> U32:
    (n,) = np.broadcast_shapes(*(key.shape for key in keys))  # 0 when there are no items
    out = np.empty((n, len(keys)), np.uint32)
    for column, key in enumerate(keys):
        out[:, column] = _mixed(key) >> np.uint64(64 - BITS)
    return out


def _mixed(x: U64) -> U64:
    """Return well mixed bits, uint64 ``(n,)`` (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: U64 = x ^ (x >> np.uint64(31))
    return out


def pack(table: F64 | F32) -> str:
    """Return a table ``(SLOTS,)`` as text: float16, little-endian, base64."""
    return base64.b64encode(np.clip(table, -MOST, MOST).astype("<f2").tobytes()).decode()


def unpack(text: str, name: str) -> F32:
    """Return the table in a text, float32 ``(SLOTS,)``; zeros for an empty text.

    Raises
    ------
    ArtefactError
        It has another size, or a number that is not finite; the message begins with ``name``.
    """
    if not text:
        return np.zeros(SLOTS, np.float32)
    try:
        table = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    except ValueError as exc:
        raise ArtefactError(f"{name}: no table: {exc}") from exc
    if table.shape != (SLOTS,) or not np.isfinite(table).all():
        raise ArtefactError(f"{name}: a table must be {SLOTS} finite numbers, got {len(table)}")
    return table
