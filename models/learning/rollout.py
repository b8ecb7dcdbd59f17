"""Whether a candidate goes a step further, goes, or waits. Pure: counts and times in, a decision out.

    shadow   for its least time; then the first users see the best one (``shadow_choice``)
    1 %      further when it is surely not 20 % worse
    10 %     further when it is surely not 5 % worse
    50 %     live when it is surely better

Clicks, watch time and users who return are compared. At every stage it goes when it is surely worse in one
of them, and when its longest time or number of examples is over without an answer. The first steps do not
wait for users to return, which takes two periods at least. The last one does: better in one of the three, and
surely not 5 % worse in the two others.

"Surely" is the always-valid interval of ``sequential``; each of the three gets its part of ``alpha``, so in
a stage all three hold at all times with chance 1 - ``alpha``. At most a share ``alpha`` / 2 of the candidates
that are as good as the live one become live, whatever the traffic, however often one looks; and in each stage
at most as many of them go because they look worse.

Where several candidates may be tried beside each other, each gets its part of ``alpha`` (``Rules.of``). So
the same holds for all of them together: the chance that any of them becomes live, though none is better, is
at most half of the setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from headrace.models.learning import shadow_choice
from headrace.models.learning.arm_counts import NAMES, ArmCounts
from headrace.models.learning.kinds import RANKER, Kind
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.sequential import Difference, difference
from headrace.streams.settings import Settings

#: By stage, how much worse (as a share) a candidate may be at most to go further; above 0: it must be better.
MARGINS: Final = {1: -0.2, 10: -0.05, 50: 0.0}
#: What is compared. Each gets its part of ``alpha``.
METRICS: Final = ("clicks", "watch_ms", "returning")
#: Users who return; left out where that is not counted (``ArmCounts.return_ms``).
RETURNING: Final = METRICS[-1]
#: Before so many periods are over, the last stage does not end for its many examples: too few users could
#: return yet.
_PERIODS: Final = 4


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a stage.

    Attributes
    ----------
    alpha
        Chance of a wrong decision for or against one candidate.
    min_ms, max_ms
        Shortest and longest time of a stage.
    min_examples, max_examples
        Of the candidate's arm, in one stage.
    """

    alpha: float = 0.05
    min_ms: int = 600_000
    max_ms: int = 7 * 86_400_000
    min_examples: int = 2000
    max_examples: int = 10_000_000

    @classmethod
    def of(cls, s: Settings, kind: Kind = RANKER) -> Rules:
        """Return the rules of the settings, for what is tried."""
        times = int(s.rollout_min_s * 1000), int(s.rollout_max_s * 1000)
        alpha = s.rollout_alpha / most_candidates(s, kind)
        return cls(alpha, *times, s.rollout_min_examples, s.rollout_max_examples)


def most_candidates(s: Settings, kind: Kind = RANKER) -> int:
    """Return how many candidates may be tried beside each other; settings have no shadow, so it is one."""
    return s.rollout_candidates if kind is RANKER else 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a candidate, and why; ``version``: another one than ``Pointers.candidate``."""

    action: Literal["wait", "promote", "roll back"]
    reason: str
    version: str = ""


def differences(counts: ArmCounts, alpha: float) -> dict[str, Difference]:
    """Return the difference of the arms by metric; all intervals hold together with chance 1 - ``alpha``."""
    names = [name for name in METRICS if name != RETURNING or counts.return_ms]
    out = {}
    for name in names:
        of, k = (counts.returns, 1) if name == RETURNING else (counts.totals, NAMES.index(name))
        live, candidate = of
        out[name] = difference(live[0], live[k], candidate[0], candidate[k], alpha / len(names))
    return out


def decide(pointers: Pointers, counts: ArmCounts, now: int, rules: Rules) -> Decision:
    """Decide on the candidates of ``pointers``.

    Parameters
    ----------
    pointers
        They have at least one candidate.
    counts
        Of its present stage.
    now
        Present time, ms.
    """
    age = now - pointers.stage_ts
    if not pointers.share:
        return _out_of_the_shadow(pointers, counts, now, rules)
    found = differences(counts, rules.alpha)
    for name, d in found.items():
        if d.high < 0:
            return Decision("roll back", _told("worse", name, d))
    examples = int(counts.totals[1, 0].sum())
    ripe = age >= rules.min_ms and examples >= rules.min_examples
    if ripe and (reason := _good_enough(found, MARGINS[pointers.share])):
        return Decision("promote", reason)
    waits_ms = 0 if MARGINS[pointers.share] < 0 else _PERIODS * counts.return_ms
    if age >= rules.max_ms or (examples >= rules.max_examples and age >= waits_ms):
        return Decision("roll back", f"no answer after {age // 1000} s and {examples} examples")
    return Decision("wait", f"{examples} examples")


def _out_of_the_shadow(pointers: Pointers, counts: ArmCounts, now: int, rules: Rules) -> Decision:
    """Decide which candidate goes further, or goes, or wait."""
    found = shadow_choice.standings(pointers, counts, rules.alpha)
    found = [one for one in found if now - one.since_ts >= rules.min_ms]
    if not found:
        return Decision("wait", "in the shadow")
    if (worse := shadow_choice.surely_worse(found)) is not None:
        return Decision("roll back", _told("worse", "the shadow", worse.difference), worse.version)
    one = shadow_choice.best(found)
    reason = "the shadow is over"
    if len(found) > 1:
        why = _told("the best", "the shadow", one.difference) if one.evidence else "the newest"
        reason += f"; {why} of {len(found)}"
    return Decision("promote", reason, one.version)


def _good_enough(found: dict[str, Difference], margin: float) -> str:
    """Return why the candidate may go further; empty when it may not, yet.

    Below 0, clicks and watch time must be above ``margin``. At 0, one metric must be, and the others must be
    above the last margin before.
    """
    # Nobody watches where nothing is watched; and where all users come in every period, nobody stays away.
    known = {name: d for name, d in found.items() if d.live != 0 and not d.live == d.candidate == 1}
    if margin < 0:
        known.pop(RETURNING, None)
        good = known and all(d.low > margin for d in known.values())
        return "; ".join(_told(f"not {-margin:.0%} worse", n, d) for n, d in known.items()) if good else ""
    better = [(name, d) for name, d in known.items() if d.low > margin]
    if not better or any(d.low <= MARGINS[10] for d in known.values()):
        return ""
    return "; ".join(_told("better", name, d) for name, d in better)


def _told(verdict: str, name: str, d: Difference) -> str:
    return f"{verdict} in {name}: {d.value:+.1%} ({d.low:+.1%} to {d.high:+.1%})"
