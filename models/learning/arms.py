"""Which users a candidate answers: a hash of the user's id and of the name of the rollout. Pure."""

from __future__ import annotations

from typing import Final

from headrace.streams.messages.ids import hash64

#: The arms of a rollout, as replies and impressions name them (``variant``).
LIVE: Final = "live"
CANDIDATE: Final = "candidate"


def place_of(user_id: str, rollout: str) -> float:
    """Return the place of a user in a rollout, [0, 1), the same in every process.

    In another rollout the user has another place, so nobody is always the first to try something new.
    """
    return (hash64(f"{rollout}/{user_id}") >> 11) * 2.0**-53


def arm_of(user_id: str, rollout: str, share: int) -> str:
    """Return the arm of a user. Who is in the candidate's arm stays there when ``share`` (percent) grows."""
    return CANDIDATE if place_of(user_id, rollout) < share / 100 else LIVE
