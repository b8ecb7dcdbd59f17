"""Labelled examples, written to a Parquet log."""

from __future__ import annotations

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


def write(folder: Path, examples: list[Example], first: int = 0, partition: int = 0) -> Path:
    offsets = list(range(first, first + len(examples)))
    return example_log.write(folder, example_log.table_of(examples, partition, offsets), partition)
