"""SipHash-1-3 (Aumasson and Bernstein 2012): a keyed 64-bit hash."""

from __future__ import annotations

_MASK = 2**64 - 1


def _turned(x: int, by: int) -> int:
    return (x << by | x >> (64 - by)) & _MASK


def _rounds(v: list[int], times: int) -> None:
    for _ in range(times):
        v[0], v[2] = (v[0] + v[1]) & _MASK, (v[2] + v[3]) & _MASK
        v[1], v[3] = _turned(v[1], 13) ^ v[0], _turned(v[3], 16) ^ v[2]
        v[0] = _turned(v[0], 32)
        v[2], v[0] = (v[2] + v[1]) & _MASK, (v[0] + v[3]) & _MASK
        v[1], v[3] = _turned(v[1], 17) ^ v[2], _turned(v[3], 21) ^ v[0]
        v[2] = _turned(v[2], 32)


def siphash13(data: bytes, k0: int, k1: int) -> int:
    """Return the hash of ``data`` under the key ``k0, k1`` (64 bits each)."""
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    words.append((len(data) & 255) << 56 | int.from_bytes(data[whole:], "little"))
    for word in words:
        v[3] ^= word
        _rounds(v, 1)
        v[0] ^= word
    v[2] ^= 0xFF
    _rounds(v, 3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
