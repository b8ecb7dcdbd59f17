"""Size and habits of the simulated world."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.streams.settings import HOUR_MS


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """The parameters of the world; the same parameters and start time give the same world."""

    items: int = 3000
    users: int = 2000
    creators: int = 300
    seed: int = 7
    control_share: float = 0.15  # of the users, shown the popularity list
    known_share: float = 0.7  # of the users, with a profile and a past
    bot_share: float = 0.01  # of the users: programs that click by chance, counted in no figure
    drift_per_min: float = 0.2  # how often a user's taste for a category moves to another one
    shift_at_s: float = 0.0  # so long after the start, all tastes move at once; 0: never
    spread_ms: int = 48 * HOUR_MS  # publication times of the starting catalogue
    new_items_per_s: float = 0.5
    visits_per_s: float = 40.0
    visits_a_session: float = 6.0  # mean, geometric
    think_ms: int = 2500  # mean pause between two visits of a session
    n: int = 20  # slots of a list
    # Long, because broker, workers and audience share this machine: with less time, fewer models are used.
    deadline_ms: int = 1000


def creator_id(creator: int) -> str:
    """Return the public id of a creator."""
    return f"creator-{creator:03d}"
