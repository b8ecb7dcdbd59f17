"""Labelled examples, written to a Parquet log."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.streams.messages.schemas import Example


def example(i: int, rng: np.random.Generator, *, user: str = "u", request: str | None = None) -> Example:
    x = rng.normal(size=len(SPEC)).astype("<f4")
    clicked = bool(rng.random() < (0.8 if x[0] > 0.5 else 0.05))
    return Example(
        request or f"r{i // 5}", user, f"i{i % 50}", "home", i % 5, 1000 + i // 5, "BR", "tv", "",
        SPEC.version,
        1.0, False, 0.1, clicked, 0, False, False, x.tobytes(),
    )  # fmt: skip


def write(folder: Path, examples: list[Example], first: int = 0, partition: int = 0, ts: int = 1000) -> Path:
    """Write a file; its records have the offsets from ``first`` on and all the timestamp ``ts``."""
    offsets = list(range(first, first + len(examples)))
    table = example_log.table_of(examples, partition, offsets, [ts] * len(examples))
    return example_log.write(folder, table, partition)


def offsets_in(folder: Path) -> list[int]:
    """Return the offsets of the records in a log, each once, in order."""
    return sorted(example_log.read(folder).column("log_offset").to_pylist())


def processes_with(text: str) -> list[int]:
    """Return the ids of the processes, other than this one, that have ``text`` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found
