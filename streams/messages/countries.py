"""Country codes of two letters are the same in any case; any other text is taken as it is written."""

from __future__ import annotations

from functools import cache
from itertools import product
from string import ascii_uppercase

from headrace.streams.messages.ids import hash64


def country_id(text: str) -> int:
    """Return the id by which countries are compared: that of the code in capitals."""
    return hash64(text.upper() if len(text) == 2 and text.isascii() else text)


def same_country(country: int) -> int:
    """Return ``country_id`` of a text of which only the id (``hash64``) is known, as in a user's row."""
    return _codes().get(country, country)


@cache
def _codes() -> dict[int, int]:
    """Return the id of every code with a small letter -> the id of the code in capitals: 2028 of them."""
    out = {}
    for pair in product(ascii_uppercase, repeat=2):
        code = "".join(pair)
        for written in {"".join(p) for p in product(*zip(code, code.lower(), strict=True))} - {code}:
            out[hash64(written)] = hash64(code)
    return out
