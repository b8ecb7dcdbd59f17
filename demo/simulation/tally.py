"""Click rates over time, of our lists and of the popular list, and how far both are from the best one."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.demo.simulation.truth import Regret


@dataclass(slots=True)
class Tally:
    """Slots shown and clicked in each second, for both kinds of list; ``control``: the popular list.

    ``regret`` has the expected clicks of the lists and of the best possible ones.
    """

    shown: dict[bool, dict[int, int]] = field(default_factory=lambda: {True: {}, False: {}})
    clicked: dict[bool, dict[int, int]] = field(default_factory=lambda: {True: {}, False: {}})

    regret: dict[bool, Regret] = field(default_factory=lambda: {True: Regret(), False: Regret()})

    def add(self, control: bool, now: int, shown: int, clicked: int) -> None:
        """Count one list of ``shown`` slots at ``now`` (ms)."""
        second = now // 1000
        for counts, amount in ((self.shown[control], shown), (self.clicked[control], clicked)):
            counts[second] = counts.get(second, 0) + amount

    def rate(self, control: bool, start: int = 0, end: int = 1 << 62) -> float:
        """Return clicks per shown slot in ``[start, end)`` ms; 0 when nothing was shown."""
        span = range(start // 1000, end // 1000)
        shown = sum(v for s, v in self.shown[control].items() if s in span)
        clicked = sum(v for s, v in self.clicked[control].items() if s in span)
        return clicked / shown if shown else 0.0

    def series(self, control: bool, end: int, step_s: int = 3, points: int = 40) -> list[float | None]:
        """Return the click rate of the last ``points`` stretches of ``step_s`` seconds, oldest first."""
        last = end // 1000
        out: list[float | None] = []
        for k in range(points, 0, -1):
            seconds = range(last - k * step_s, last - (k - 1) * step_s)
            shown = sum(self.shown[control].get(s, 0) for s in seconds)
            clicked = sum(self.clicked[control].get(s, 0) for s in seconds)
            out.append(clicked / shown if shown else None)
        return out
