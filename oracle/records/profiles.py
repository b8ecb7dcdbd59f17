"""Reading records of `users`: profiles, and tombstones of users who are to be forgotten."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from headrace.oracle.records.columns import columns_of
from headrace.oracle.records.documents import RefusedError, array, number, read_document, string, struct
from headrace.oracle.records.frames import USERS, key_of

#: A row has so many of a profile's categories, and of its creators: the first ones.
PREFERRED: Final = 8
FOLLOWED: Final = 16

_label = string(0, 128)
_profile = struct(
    {"user_id": string(1, 64)},
    {
        "country": _label,
        "age": number(0, 150),
        "language": _label,
        "preferred_categories": array(_label, 64),
        "followed_creators": array(_label, 5000),
    },
)


def read_users(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Return records of `users` as ``USERS``, a row for every row of ``raw``.

    ``age`` is -1 where a profile has none. ``preferred`` and ``followed`` have the keys that a row has.
    """

    def read(key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        if value is None and key:
            name = key.decode("utf-8", "replace")
            return key_of(name), name, True, None, None, None, None, None, None, None
        p = read_document(value, max_bytes, _profile)
        user = p["user_id"]
        if key != user.encode():
            raise RefusedError("wrong_key")
        preferred = [key_of(name) for name in p.get("preferred_categories", [])[:PREFERRED]]
        followed = [key_of(name) for name in p.get("followed_creators", [])[:FOLLOWED]]
        country, language = key_of(p.get("country", "")), key_of(p.get("language", ""))
        age = p.get("age", -1)
        return key_of(user), user, False, country, language, age, preferred, followed, None, None

    names = [key_of(key.decode("utf-8", "replace")) if key else 0 for key in raw["key"]]
    return columns_of(raw, USERS, read).with_columns(
        named=pl.Series(names, dtype=pl.UInt64), sent_on=raw["origin"].is_not_null()
    )
