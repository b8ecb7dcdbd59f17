"""Of several items with the same title, one is on the list."""

from __future__ import annotations

from headrace.models.state.key_sets import any_twice
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.quota import Quota
from headrace.serving.rerank.rules import Rules


def same_title(choices: Choices, n: int, rules: Rules) -> Quota | None:
    """Return the quota of titles, None where no two candidates have the same.

    A late filter would take the second one off the finished list, and the list would be filled again: then an
    item's chance of its slot is not the one that was logged.
    """
    del n, rules
    return Quota(choices.title, 1) if any_twice(choices.title) else None
