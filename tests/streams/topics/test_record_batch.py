"""The checksum of record batches, and their lz4 frames: compared with those of other libraries."""

from __future__ import annotations

import os

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.topics.record_batch import lz4_frame
from headrace.streams.transport.crc32c import crc32c


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(0, 7))
def test_the_checksum_is_that_of_aiokafka(data: bytes, more: bytes, skipped: int) -> None:
    assert crc32c(data) == calc_crc32c(data)
    assert crc32c(data, more) == calc_crc32c(data + more)
    rest = memoryview(data)[skipped:]
    assert crc32c(rest, bytearray(more)) == calc_crc32c(bytes(rest) + more)


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (1 << 22) + 1])
@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
def test_an_lz4_frame_says_what_was_put_in(size: int, random: float) -> None:
    noise = os.urandom(int(size * random))
    payload = noise + bytes(size - len(noise))
    frame = lz4_frame(payload)
    assert codec.lz4_decode(frame) == payload
    assert bytes(cramjam.lz4.decompress(frame)) == payload


def test_lz4_frames_are_smaller_than_those_of_small_blocks() -> None:
    payload = b"".join(number.to_bytes(8, "little") for number in range(60_000))
    assert len(lz4_frame(payload)) < len(codec.lz4_encode(payload, level=1))
