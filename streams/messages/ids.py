"""Ids: strings in messages, 64-bit integers (hashes) in state.

Vectorised state needs columns of 64-bit integers. With 10 million items the probability that two of them have
the same hash is about 3 in a million (birthday bound, ``n**2 / 2**65``). The hash is keyed (SipHash-1-3), so
nobody who does not know the key of the installation can choose ids that have the same hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.siphash import id_of_text, ids_of_texts

U64 = npt.NDArray[np.uint64]

#: Reserved id: no item, no category, no creator.
NONE: int = 0


def key_words(secret: str) -> tuple[int, int]:
    """Return the two 64-bit words of the key that a secret text stands for (BLAKE2b, 16 bytes)."""
    digest = hashlib.blake2b(secret.encode(), digest_size=16, person=b"headrace ids").digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


class _Key:
    """The key of this process: the same in every process of an installation."""

    words = key_words("")


def use_key(secret: str) -> None:
    """Hash ids under another key from now on. Call it before the first id is hashed (``HEADRACE_ID_KEY``)."""
    _Key.words = key_words(secret)


def words() -> tuple[int, int]:
    """Return the two 64-bit words of the key in use."""
    return _Key.words


def hash64(text: str) -> int:
    """Return the 64-bit id of ``text``; the empty string is ``NONE``."""
    return id_of_text(text, *_Key.words)


def hash_many(texts: Iterable[str]) -> U64:
    """Return the ids of ``texts``, uint64 ``(n,)``; the id of an empty string is ``NONE``."""
    return ids_of_texts(texts if isinstance(texts, list) else list(texts), *_Key.words)
