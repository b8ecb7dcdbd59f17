"""A short, fixed run of every fuzz target; ``make fuzz`` looks longer, led by coverage."""

from __future__ import annotations

import pytest
from fuzz_mutate import inputs
from fuzz_targets import TARGETS

#: Inputs of each target.
COUNT = 150


@pytest.mark.parametrize("name", TARGETS)
def test_only_clear_errors_come_out(name: str) -> None:
    target = TARGETS[name]
    for data in inputs(1, target.seeds, COUNT):
        target(data)


@pytest.mark.parametrize("name", TARGETS)
def test_the_good_inputs_are_good(name: str) -> None:
    """Mutations of what is refused at once would reach nothing."""
    target = TARGETS[name]
    for data in target.seeds:
        target.run(data)


def test_inputs_are_the_same_again_and_differ_between_seeds() -> None:
    first, second = list(inputs(1, [b"abcdef"], 50)), list(inputs(2, [b"abcdef"], 50))
    assert first == list(inputs(1, [b"abcdef"], 50))
    assert first != second
