"""Lists that some users were shown, and what they did with them, by chance."""

from __future__ import annotations

import msgspec
import numpy as np
from oracle_examples import impression
from strategies import T0

from headrace.streams.messages.schemas import Event, Impression
from headrace.streams.settings import MINUTE_MS

KINDS = ["click", "skip", "dwell", "like", "save", "follow", "hide"]


def lists_and_events(
    rng: np.random.Generator, lists: int = 40, most_events: int = 5
) -> tuple[list[tuple[Impression, int]], list[tuple[Event, int]]]:
    """Return lists and events with the times of their records, in the order of these.

    Users touch the items of a list within two minutes, or at any time up to two minutes after its wait; a
    request id comes again now and then.
    """
    shown, events, at = list[tuple[Impression, int]](), list[tuple[Event, int]](), T0
    for k in range(lists):
        at += int(rng.integers(1, 2 * MINUTE_MS))
        items = [f"i{n}" for n in rng.choice(9, int(rng.integers(1, 7)), replace=rng.random() < 0.2)]
        request = f"r{k - int(rng.random() < 0.1)}"
        user, surface = f"u{rng.integers(2)}", ("home", "digest")[int(rng.random() < 0.2)]
        ts = at - int(rng.integers(20))
        one = msgspec.structs.replace(impression(request, items, ts, user=user), surface=surface)
        shown.append((one, at))
        for n in range(int(rng.integers(most_events + 1))):
            later = int(rng.integers(1, 2 * MINUTE_MS if rng.random() < 0.7 else 12 * MINUTE_MS))
            kind, item = str(rng.choice(KINDS)), str(rng.choice(items))
            dwell_ms = int(rng.integers(1, 9999)) if kind == "dwell" else None
            told = at + later - int(rng.integers(min(later, 500)))
            event = Event(f"{k}-{n}", kind, user, item, told, dwell_ms, request)  # type: ignore[arg-type]
            events.append((event, at + later))
    return shown, sorted(events, key=lambda pair: pair[1])
