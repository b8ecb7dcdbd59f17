"""How lists are made: the numbers an operator can set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.streams.settings import DAY_MS, Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """How lists are made.

    Attributes
    ----------
    candidates
        Most candidates that are ranked.
    parts
        By label (``kind:name``): ``on``, ``off``, or the size of a source; see ``build.py``.
    plugins
        Parts of the installation's own, ``module:Class``.
    part_ms, candidates_ms
        Longest time, ms, of one part; of all sources together.
    repeat_after_ms
        An item rests for this long after the user clicked it.
    """

    candidates: int = 500
    epsilon: float = 0.02
    mmr_lambda: float = 0.9
    repeat_after_ms: int = DAY_MS
    session_gap_ms: int = 30 * 60_000
    parts: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    part_ms: float = 25.0
    candidates_ms: float = 60.0
    blocked_flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the policy in the settings."""
        s = settings
        return cls(
            candidates=s.candidates,
            epsilon=s.epsilon,
            mmr_lambda=s.mmr_lambda,
            session_gap_ms=s.session_gap_ms,
            parts=dict(s.parts),
            plugins=s.plugins,
            part_ms=s.part_ms,
            candidates_ms=s.candidates_ms,
            blocked_flags=s.blocked_flags,
        )
