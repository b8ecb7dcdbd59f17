"""Makes inputs from good ones: cut, doubled, flipped, nested, with hostile pieces. Pure, seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

#: Pieces that decoders stumble over: deep nesting, odd numbers, halves of characters, names of other types.
PIECES = (
    b"[" * 5000, b'{"a":' * 3000, b"[" * 100_000, b"null", b"-1", b"1e999", b"-0", b"NaN", b"Infinity",
    b"1.5", b"9223372036854775808", b"18446744073709551616", b"999999999999", b"1" * 400, b"true", b'""',
    b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xed\xa0\x80", b"\x00", b"{}", b"[]", b"%s", b"/", b"\n", b"=",
    b"&", b".", b"-",
)  # fmt: skip


def inputs(seed: int, seeds: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield inputs: the good ones, every piece alone, then mutations; the same for the same arguments."""
    yield from seeds
    yield from PIECES
    rng = random.Random(f"fuzz-{seed}")
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _change(rng, data)
        yield bytes(data)


def _change(rng: random.Random, data: bytearray) -> None:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 40))
    how = rng.randrange(6)
    if how == 0:
        del data[at : at + size]
    elif how == 1:
        data[at:at] = data[at : at + size]
    elif how == 2:
        data[at : at + size] = rng.randbytes(size)
    elif how == 3:
        data[at:at] = rng.choice(PIECES)
    elif how == 4:
        del data[at:]
    else:  # a value of JSON, or a word, becomes another one
        end = at
        while end < len(data) and data[end] not in b',:]}" &=\n':
            end += 1
        data[at:end] = rng.choice(PIECES)
