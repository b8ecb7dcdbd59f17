"""Numbers and titles in sentences for users."""

from __future__ import annotations

from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS

_LONGEST_TITLE = 60


def quoted(text: str) -> str:
    """Return a title in quotes, cut where it is long."""
    return f"“{text[:_LONGEST_TITLE]}”"


def clicks(count: float) -> str:
    """Return a number of clicks."""
    n = int(count)
    return f"{n:,} click" if n == 1 else f"{n:,} clicks"


def percent(share: float) -> str:
    """Return a share of 0 to 1."""
    return f"{100 * share:.0f} %"


def age(ms: int) -> str:
    """Return a time span in its largest unit."""
    for unit, name in ((DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute"), (1000, "second")):
        if ms >= unit:
            n = ms // unit
            return f"{n} {name}" if n == 1 else f"{n} {name}s"
    return "a moment"
