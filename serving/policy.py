"""How lists are made: the numbers an operator can set."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.streams.settings import DAY_MS, Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """How lists are made."""

    candidates: int = 500
    epsilon: float = 0.02
    mmr_lambda: float = 0.9
    repeat_after_ms: int = DAY_MS  # an item is not shown again for this long after the user clicked it
    session_gap_ms: int = 30 * 60_000

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the policy in the settings."""
        return cls(
            settings.candidates, settings.epsilon, settings.mmr_lambda, session_gap_ms=settings.session_gap_ms
        )
