from typing import TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview

#: Whether the CPU has an instruction for it; else aiokafka computes it.
COMPILED: bool

def crc32c(data: Bytes, more: Bytes | None = None) -> int:
    """Return the CRC-32C of ``data``, followed by ``more``."""
