from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.messages.ids import NONE, hash64, hash_many, key_words, use_key, words

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def test_the_empty_string_is_nothing() -> None:
    assert hash64("") == NONE == 0
    assert hash_many(["", "a", ""]).tolist() == [0, hash64("a"), 0]


def siphash(data: bytes, k0: int, k1: int, rounds: tuple[int, int] = (1, 3)) -> int:
    """Compute SipHash as its authors describe it."""
    mask = 2**64 - 1
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def turn(x: int, by: int) -> int:
        return (x << by | x >> (64 - by)) & mask

    def mix(times: int) -> None:
        for _ in range(times):
            v[0], v[2] = (v[0] + v[1]) & mask, (v[2] + v[3]) & mask
            v[1], v[3] = turn(v[1], 13) ^ v[0], turn(v[3], 16) ^ v[2]
            v[0] = turn(v[0], 32)
            v[2], v[0] = (v[2] + v[1]) & mask, (v[0] + v[3]) & mask
            v[1], v[3] = turn(v[1], 17) ^ v[2], turn(v[3], 21) ^ v[0]
            v[2] = turn(v[2], 32)

    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    for word in [*words, (len(data) & 255) << 56 | int.from_bytes(data[whole:], "little")]:
        v[3] ^= word
        mix(rounds[0])
        v[0] ^= word
    v[2] ^= 0xFF
    mix(rounds[1])
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_description_above_gives_the_value_of_the_paper() -> None:
    k0, k1 = (int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8))
    assert siphash(bytes(range(15)), k0, k1, (2, 4)) == 0xA129CA6149BE45E5


@given(texts)
def test_an_id_is_the_siphash_of_its_text(text: str) -> None:
    assert hash64(text) == (siphash(text.encode(), *words()) or 1 if text else 0)


def test_ids_are_those_of_every_other_process() -> None:
    # A change would orphan every stored row.
    assert key_words("") == (0x46304C5B713B5800, 0x10ACF3BA7E4A831C)
    assert hash64("item-1") == 15352749689425137094


def test_another_secret_gives_other_ids() -> None:
    before = hash64("item-1")
    use_key("secret")
    try:
        assert hash64("item-1") not in (before, 0)
    finally:
        use_key("")
    assert hash64("item-1") == before


@given(st.lists(texts, max_size=30))
def test_many_at_once_are_the_same(items: list[str]) -> None:
    got = hash_many(items)
    assert got.dtype == np.uint64
    assert got.shape == (len(items),)
    assert got.tolist() == [hash64(t) for t in items]


@given(texts)
def test_only_nothing_is_zero(text: str) -> None:
    assert (hash64(text) == NONE) == (text == "")
    assert 0 <= hash64(text) < 1 << 64


def test_a_hundred_thousand_ids_do_not_collide() -> None:
    assert len(np.unique(hash_many([f"item-{i}" for i in range(100_000)]))) == 100_000
