"""The counts of the metrics are those of the report, and of slots that are counted one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_examples import example, write
from msgspec.structs import replace

from headrace.models.learning.source_counts import source_counts
from headrace.models.learning.source_outcomes import OTHER, SourceCounts, SourceOutcomes

Slot = tuple[list[str], bool]
SLOTS = st.lists(
    st.tuples(st.lists(st.sampled_from(["ann", "hot", "new", "next"]), unique=True), st.booleans()),
    max_size=60,
)


def one_by_one(slots: list[Slot]) -> dict[tuple[str, str], int]:
    found = Counter[tuple[str, str]]()
    for names, clicked in slots:
        for name in names:
            found[name, "shown"] += 1
            found[name, "clicked"] += clicked
            found[name, "alone"] += names == [name]
            found[name, "clicked_alone"] += names == [name] and clicked
    return dict(found)


def added(outcomes: SourceOutcomes, slots: list[Slot]) -> SourceOutcomes:
    outcomes.add([names for names, _ in slots], [clicked for _, clicked in slots])
    return outcomes


def samples(outcomes: SourceOutcomes) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in outcomes.read()}


@settings(deadline=None)
@given(SLOTS, st.integers(0, 60))
def test_counts_do_not_depend_on_how_slots_come(slots: list[Slot], cut: int) -> None:
    outcomes = added(added(SourceOutcomes(4), slots[:cut]), slots[cut:])
    assert samples(outcomes) == one_by_one(slots)
    assert outcomes.counts() == added(SourceOutcomes(), slots).counts()


def test_the_report_has_the_same_figures(tmp_path: Path) -> None:
    rng, names = np.random.default_rng(3), ["ann", "hot", "new"]
    slots: list[Slot] = [
        ([n for n in names if rng.random() < 0.5], bool(rng.random() < 0.2)) for _ in range(300)
    ]
    made = [replace(example(i, rng), sources=s, clicked=clicked) for i, (s, clicked) in enumerate(slots)]
    write(tmp_path, made)
    found, shown, _ = source_counts(tmp_path)
    assert shown == 300
    assert found == added(SourceOutcomes(), slots).counts()
    assert sum(c.clicked_alone for c in found) > 0


def test_slots_without_sources_are_of_none() -> None:
    outcomes = SourceOutcomes()
    outcomes.add([None, [], ["hot"]], [True, True, False])
    assert outcomes.counts() == [SourceCounts("hot", 1, 0, 1, 0)]


def test_a_metric_does_not_grow_for_ever() -> None:
    outcomes = added(SourceOutcomes(2), [(["a"], True), (["b"], False), (["c"], True), (["d", "a"], False)])
    found = samples(outcomes)
    assert {source for source, _ in found} == {"a", "b", OTHER}
    assert (found["a", "shown"], found[OTHER, "shown"], found[OTHER, "clicked"]) == (2, 2, 1)
