"""How lists are made: the numbers an operator can set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.serving.rerank.rules import Rules, rules_of
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings


@dataclass(frozen=True, slots=True)
class UnshownPolicy:
    """Which candidates that did not come onto a list are logged with it, for training.

    Attributes
    ----------
    share
        Share of the requests.
    next, random
        So many that would have come next, and so many of the others, drawn by chance.
    """

    share: float = 0.0
    next: int = 0
    random: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """How lists are made.

    Attributes
    ----------
    candidates
        Most candidates that are ranked.
    rules
        The numbers of the re-rank stage.
    fresh_ms, fresh_shown
        An item is fresh for so long after its publication, until it was shown so often.
    tail_clicks
        An item with fewer clicks (of all time) is of the long tail.
    parts
        By label (``kind:name``): ``on``, ``off``, or the size of a source; see ``build.py``.
    sizes
        By name, sizes of sources that differ from those in ``parts``; 0: such a source is not asked.
    plugins
        Parts of the installation's own, ``module:Class``.
    part_ms, candidates_ms
        Longest time, ms, of one part; of all sources together.
    clicked_rest_ms
        An item rests for this long after the user clicked it.
    shown_rest_ms, shown_most
        An item rests for this long after it was shown; shown so often without a click, it rests for longer.
    shadow_share
        Share of the lists of which it is logged what a candidate would have shown.
    leaf_steps
        Whether the ranker is used with leaf deltas.
    unshown
        What is logged of the candidates that were not shown.
    """

    candidates: int = 500
    rules: Rules = field(default_factory=Rules)
    fresh_ms: int = DAY_MS
    fresh_shown: int = 100
    tail_clicks: int = 100
    clicked_rest_ms: int = 3 * HOUR_MS
    shown_rest_ms: int = 10 * 60_000
    shown_most: int = 10
    session_gap_ms: int = 30 * 60_000
    parts: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    part_ms: float = 100.0
    candidates_ms: float = 60.0
    blocked_flags: tuple[str, ...] = ()
    shadow_share: float = 0.1
    leaf_steps: bool = True
    unshown: UnshownPolicy = UnshownPolicy()

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the policy in the settings."""
        s = settings
        return cls(
            candidates=s.candidates,
            rules=rules_of(s.rules),
            fresh_ms=int(HOUR_MS * s.fresh_hours),
            fresh_shown=s.fresh_shown,
            tail_clicks=s.tail_clicks,
            clicked_rest_ms=int(1000 * s.clicked_rest_s),
            shown_rest_ms=int(1000 * s.shown_rest_s),
            shown_most=s.shown_most,
            session_gap_ms=s.session_gap_ms,
            parts=dict(s.parts),
            plugins=s.plugins,
            part_ms=s.part_ms,
            candidates_ms=s.candidates_ms,
            blocked_flags=s.blocked_flags,
            shadow_share=s.shadow_share,
            leaf_steps=s.leaf_steps,
            unshown=UnshownPolicy(s.unshown_share, s.unshown_next, s.unshown_random),
        )
