"""The oracle's labels, and when slots close: the same as those of the live join, and nothing else passes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from join_cuts import Cut
from oracle_examples import EARLY, WAIT, compare, event, examples_of, impression, slots
from random_lists import lists_and_events
from strategies import T0

from headrace.models.slot_labels import Rules
from headrace.oracle.compare.examples import LABELS
from headrace.streams.messages.schemas import Example

replace = msgspec.structs.replace
GRACE, ITEMS = EARLY.grace_ms, ("a", "b", "c", "d")
SHOWN = [(impression(items=ITEMS), T0)]


def outcomes(*labels: str) -> list[dict[str, Any]]:
    """Return outcomes with labels; what is touched is clicked."""
    return [{"label": label, "clicked": label == "touched"} for label in labels]


def wrong(expected: Any, *labels: str) -> list[tuple[str, str, Any, Any]]:
    """Return the differences of the first list's examples, with these labels."""
    findings = compare(expected, examples_of(SHOWN[0][0], *outcomes(*labels)))
    return [(d.row.split()[1], d.feature, d.expected, d.found) for d in findings.first]


def test_labels_are_told_by_position_and_events() -> None:
    told = [(event("skip", "a", T0 + 50), T0 + 55), (event("dwell", "c", T0 + 60, dwell_ms=0), T0 + 65)]
    expected = slots(SHOWN, told)
    right = outcomes("skipped", "passed", "", "unseen")
    right[2] = {"label": "touched"}
    findings = compare(expected, examples_of(SHOWN[0][0], *right))
    assert (findings.first, findings.by_kind[LABELS], findings.left_out[LABELS]) == ([], 4, 0)
    for k, label in enumerate(("passed", "unseen", "skipped", "passed")):
        changed = [*right[:k], {**right[k], "label": label}, *right[k + 1 :]]
        (found,) = compare(expected, examples_of(SHOWN[0][0], *changed)).first
        assert (found.feature, found.expected, found.found) == ("label", right[k]["label"], label)


@pytest.mark.parametrize(
    ("after", "right", "other"), [(-5000, "touched", "passed"), (5000, "passed", "touched")]
)
def test_a_click_counts_until_the_grace_of_a_passed_slot_is_over(after: int, right: str, other: str) -> None:
    at = T0 + 1000 + GRACE + after
    told = [(event("like", "b", T0 + 1000), T0 + 1000), (event("click", "a", at), at)]
    liked = {"label": "touched", "liked": True}
    for label, features in ((right, []), (other, ["clicked", "label"])):
        given = examples_of(SHOWN[0][0], *outcomes(label), liked)
        assert [d.feature for d in compare(slots(SHOWN, told), given).first] == features


def test_a_new_list_passes_the_slot_below_the_touched_one_if_it_came_later() -> None:
    click = [(event("click", "b", T0 + 1000), T0 + 1000)]
    for surface, request, ts, label in (
        ("home", "s", T0 + 2000, "passed"), ("home", "s", T0 + 900, "either"),
        ("digest", "s", T0 + 2000, "unseen"), ("home", "r", T0 + 2000, "unseen"),
    ):  # fmt: skip
        after = replace(impression(request, ("x",), ts), surface=surface)
        expected = slots([*SHOWN, (after, ts)], click)
        for given in ("passed", "unseen"):
            found = wrong(expected, "passed", "touched", given, "unseen")
            missing = [d for d in found if d[1] == "examples"]
            assert [d[:2] for d in found if d not in missing] == [("2", "label")] * (
                label not in (given, "either")
            )


def test_an_example_of_an_older_version_has_no_label_to_compare() -> None:
    given = examples_of(SHOWN[0][0], *outcomes("", "", "", ""))
    assert len(compare(slots(SHOWN, []), given).first) == 4
    older = [{k: v for k, v in msgspec.to_builtins(e).items() if k != "label"} for e in given]
    findings = compare(slots(SHOWN, []), older)
    assert (findings.first, findings.by_kind[LABELS], findings.left_out[LABELS]) == ([], 4, 0)


@pytest.mark.parametrize("seed", range(8))
def test_the_live_join_says_the_same(seed: int) -> None:
    lists, events = lists_and_events(np.random.default_rng(seed))
    cut = Cut(lists, events, WAIT, Rules(*EARLY)).run(np.random.default_rng(seed), 20_000)
    examples = [e for e, _ in cut.examples]
    expected = slots(lists, events, examples, [at for _, at in cut.examples])
    findings = compare(expected, examples, read_at=lists[-1][1] + 10 * WAIT)
    assert findings.first == []
    assert findings.by_kind[LABELS] > 3 * findings.left_out[LABELS]
    certain = {
        (u, p): n for u, p, n in expected.select("ts", "position", "labels").rows() if n in (1, 2, 4, 8)
    }
    changed = [_other(e) if (e.ts, e.position) in certain else e for e in examples]
    assert compare(expected, changed, read_at=lists[-1][1] + 10 * WAIT).differences >= len(certain)


def _other(example: Example) -> Example:
    return replace(example, label="unseen" if example.label != "unseen" else "passed")
