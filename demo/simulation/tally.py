"""Click rates over time, of our lists and of the popular list, and how far both are from the best one."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.demo.simulation.truth import Regret

#: Slots of a second: shown, clicked, and of both those with items published while the demo runs.
_Slots = tuple[int, int, int, int]


def _two_kinds() -> dict[bool, dict[int, _Slots]]:
    return {True: {}, False: {}}


@dataclass(slots=True)
class Tally:
    """Slots in each second, for both kinds of list; ``control``: the popular list.

    ``regret`` has the expected clicks of the lists and of the best possible ones.
    """

    slots: dict[bool, dict[int, _Slots]] = field(default_factory=_two_kinds)
    regret: dict[bool, Regret] = field(default_factory=lambda: {True: Regret(), False: Regret()})
    _regrets: dict[bool, dict[int, Regret]] = field(default_factory=lambda: {True: {}, False: {}})

    def add(
        self, control: bool, now: int, shown: int, clicked: int, new_shown: int = 0, new_clicked: int = 0
    ) -> None:
        """Count one list of ``shown`` slots at ``now`` (ms), and which of them had new items."""
        second, by_second = now // 1000, self.slots[control]
        a, b, c, d = by_second.get(second, (0, 0, 0, 0))
        by_second[second] = a + shown, b + clicked, c + new_shown, d + new_clicked

    def judge(self, control: bool, now: int, got: float, best: float) -> None:
        """Count what a list at ``now`` (ms) is worth, and what the best one is worth, in expected clicks."""
        self.regret[control].add(got, best)
        self._regrets[control].setdefault(now // 1000, Regret()).add(got, best)

    def best_share(self, control: bool, start: int = 0, end: int = 1 << 62) -> float:
        """Return the share of the best possible clicks in ``[start, end)`` ms; 0 when no list was judged."""
        seconds, sums = range(start // 1000, end // 1000), Regret()
        for second, found in self._regrets[control].items():
            if second in seconds:
                sums.add(found.got, found.best)
        return sums.share

    def _sums(self, control: bool, seconds: range) -> _Slots:
        """Return the sums over some seconds."""
        found = [v for s, v in self.slots[control].items() if s in seconds]
        shown, clicked, new_shown, new_clicked = map(sum, zip((0, 0, 0, 0), *found, strict=True))
        return shown, clicked, new_shown, new_clicked

    def rate(self, control: bool, start: int = 0, end: int = 1 << 62) -> float:
        """Return clicks per shown slot in ``[start, end)`` ms; 0 when nothing was shown."""
        shown, clicked, _, _ = self._sums(control, range(start // 1000, end // 1000))
        return clicked / shown if shown else 0.0

    def new_items(self, control: bool, start: int = 0, end: int = 1 << 62) -> tuple[float, float, float]:
        """Return the share of slots with new items, the click rate of these, and that of the other slots.

        0 where nothing was shown. Each is of ``[start, end)`` ms.
        """
        shown, clicked, new, hits = self._sums(control, range(start // 1000, end // 1000))
        pairs = (new, shown), (hits, new), (clicked - hits, shown - new)
        share, rate, other = (part / whole if whole else 0.0 for part, whole in pairs)
        return share, rate, other

    def series(self, control: bool, end: int, step_s: int = 3, points: int = 40) -> list[float | None]:
        """Return the click rate of the last ``points`` stretches of ``step_s`` seconds, oldest first."""
        last = end // 1000
        out: list[float | None] = []
        for k in range(points, 0, -1):
            seconds = range(last - k * step_s, last - (k - 1) * step_s)
            found = [self.slots[control].get(s, (0, 0)) for s in seconds]
            shown, clicked = sum(v[0] for v in found), sum(v[1] for v in found)
            out.append(clicked / shown if shown else None)
        return out
