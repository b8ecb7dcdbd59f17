"""What a user did with the slots of a list: touched, skipped, passed or never seen them. Pure.

    slot 0   .                   passed: a later slot was touched
    slot 1   skip                skipped
    slot 2   .                   passed
    slot 3   click at t          touched: open for the whole wait, more may come
    slot 4   .                   passed, if a new list of the surface was shown after t; else not seen
    slot 5   .                   not seen: open for the whole wait

An event on a slot shows that the user has been there, and went past the slots above it. (Joachims et al.,
"Accurately interpreting clickthrough data as implicit feedback", SIGIR 2005: Click > Skip Above. Users look
at the slot right below a click, too.) A new list shows that the user has left the old one. Alone it does not
say how far the old one was seen: perhaps it never came onto a screen. With an event on the old list before
it, it does: down to the deepest slot with such an event, and ``below`` more that are on the screen with it.

What is skipped or passed closes ``grace_ms`` after the event, or the new list, that says so. All times are
those of records. So outcomes follow from the list and its events: when they are written changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from headrace.models.outcomes import NOT_WANTED, TOUCH, SlotOutcome

#: Labels of a slot.
TOUCHED: Final = "touched"
SKIPPED: Final = "skipped"
PASSED: Final = "passed"
UNSEEN: Final = "unseen"


class Deed(NamedTuple):
    """An event on a slot: position, first position with its item, time of its record (ms), what happened."""

    position: int
    depth: int
    at: int
    what: int
    dwell_ms: int


class Rules(NamedTuple):
    """How long a passed slot stays open, ms, at least 1; how many are seen below one with an event."""

    grace_ms: int = 30_000
    below: int = 1


class Span(NamedTuple):
    """Times of a list, ms: of its record; when it closes; of the next list of its user and surface, or 0."""

    at: int
    closes: int
    next_at: int = 0


class Ended(NamedTuple):
    """The slots of a list.

    Attributes
    ----------
    outcomes
        By position; those without one are not seen.
    closes
        When each slot closes, ms: with its list, or earlier.
    late
        Touches of slots that had closed early; they count for no outcome.
    """

    outcomes: dict[int, SlotOutcome]
    closes: list[int]
    late: int


#: The rules by default.
RULES = Rules()


def ended(deeds: Sequence[Deed], slots: int, span: Span, rules: Rules = RULES) -> Ended:
    """Return the outcome of every slot of a list, and when it closes.

    - ``touched``: a click, a dwell, a like, a save or a follow, before the slot closed.
    - ``skipped``: none of these; a skip or a hide.
    - ``passed``: no event; one on a later position of the list. Or a new list of the surface was shown to the
      user, and the slot is not more than ``rules.below`` under the deepest one with an event before that.
    - ``unseen``: none of these.

    A skipped or passed slot closes ``rules.grace_ms`` after the first sign of it. If it is touched before, it
    stays open with its list.

    Parameters
    ----------
    deeds
        Events of the list whose records are dated before ``span.closes``, in any order.
    slots
        Number of slots that were shown.
    """
    passed = _passed(deeds, slots, span, rules)
    signs = passed.copy()
    for deed in deeds:
        if deed.what & NOT_WANTED:
            signs[deed.position] = min(signs[deed.position], max(deed.at, span.at))
    closes = [min(sign + rules.grace_ms, span.closes) for sign in signs]
    for deed in deeds:
        if deed.what & TOUCH and deed.at < min(signs[deed.position] + rules.grace_ms, span.closes):
            closes[deed.position] = span.closes
    outcomes = {p: SlotOutcome(label=PASSED) for p in range(slots) if passed[p] < span.closes}
    late = 0
    for deed in deeds:
        if deed.at < closes[deed.position]:
            _add(outcomes.setdefault(deed.position, SlotOutcome()), deed)
        else:
            late += bool(deed.what & TOUCH)
    return Ended(outcomes, closes, late)


def _add(outcome: SlotOutcome, deed: Deed) -> None:
    outcome.add(deed.what, deed.dwell_ms)
    if deed.what & TOUCH:
        outcome.label = TOUCHED
    elif outcome.label != TOUCHED:
        outcome.label = SKIPPED


def _passed(deeds: Sequence[Deed], slots: int, span: Span, rules: Rules) -> list[int]:
    """Return when each slot was passed, ms; ``span.closes``: never."""
    first, deepest = [span.closes] * slots, -1
    asked_at = span.next_at if 0 < span.next_at < span.closes else 0
    for deed in deeds:
        at = max(deed.at, span.at)
        first[deed.depth] = min(first[deed.depth], at)
        if asked_at and at <= asked_at:
            deepest = max(deepest, deed.depth)
    out, below = [span.closes] * slots, span.closes
    for p in range(slots - 1, -1, -1):
        out[p], below = below, min(below, first[p])
    if deepest >= 0:
        for p in range(min(deepest + rules.below + 1, slots)):
            out[p] = min(out[p], asked_at)
    return out
