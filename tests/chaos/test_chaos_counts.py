"""Counts after a disturbance: what was there before, and what is new."""

from __future__ import annotations

from chaos_counts import Counts, differences


def test_counts_must_be_those_before_and_the_new_ones() -> None:
    before = Counts({("user", 1, "click"): 2, ("user", 2, "click"): 1})
    new = Counts({("user", 1, "click"): 3, ("item", 9, "shown"): 1})
    right = Counts({("user", 1, "click"): 5, ("user", 2, "click"): 1, ("item", 9, "shown"): 1})
    assert differences(before, new, right) == []
    assert differences(before, new, right + Counts({("user", 2, "click"): 1})) == [
        "user 0000000000000002 click: 1 before, 0 new, 2 found"
    ]
    assert len(differences(before, new, Counts())) == 3
