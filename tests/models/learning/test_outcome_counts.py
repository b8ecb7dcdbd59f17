from __future__ import annotations

from typing import Any

from rollout_counts import shown

from headrace.models.learning.outcome_counts import MOST, OutcomeCounts


def counted(counts: OutcomeCounts) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in counts.read()}


def slot(ranker: str, **fields: Any) -> Any:
    return shown(1, ranker, 1000, **fields)


def test_shown_and_clicked_slots_are_counted_by_ranker() -> None:
    counts = OutcomeCounts()
    counts.add([slot("a", clicked=True), slot("a", clicked=False), slot("", clicked=True)])
    counts.add([slot("a", clicked=True), slot("a", clicked=True, unshown=True)])
    assert counted(counts) == {
        ("a", "shown"): 3,
        ("a", "clicked"): 2,
        ("none", "shown"): 1,
        ("none", "clicked"): 1,
    }


def test_only_the_newest_rankers_are_kept() -> None:
    counts = OutcomeCounts()
    for n in range(MOST + 3):
        counts.add([slot("live", clicked=False), slot(f"r{n:02d}", clicked=False)])
    rankers = {ranker for ranker, _ in counted(counts)}
    assert rankers == {"live", *(f"r{n:02d}" for n in range(4, MOST + 3))}
    assert counted(counts)["live", "shown"] == MOST + 3
