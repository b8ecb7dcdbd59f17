"""The figures of an estimate, and of which constants each is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.console.sizing.constants import Constants


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes
    ----------
    of
        What it belongs to: a role, a topic, a kind of rows in Redis.
    what
        Which property of it.
    value, unit
        The number; bytes, bytes a month, cores, or "" for a count.
    how
        The formula, in words.
    constants
        Names of the measured constants in it.
    """

    of: str
    what: str
    value: float
    unit: str
    how: str
    constants: tuple[str, ...]


@dataclass(slots=True)
class Reader:
    """Reads constants, and notes which ones until they are told to a figure."""

    constants: Constants
    _read: dict[str, None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        self._read[name] = None
        return self.constants[name]

    def at(self, name: str, x: float) -> float:
        """Return the value of a curve."""
        self._read[name] = None
        return self.constants.at(name, x)

    def figure(self, of: str, what: str, value: float, unit: str, how: str) -> Figure:
        """Return a figure made of the constants that were read since the last one."""
        names, self._read = tuple(self._read), {}
        return Figure(of, what, value, unit, how, names)

    def also(self, figures: Sequence[Figure]) -> None:
        """Note the constants of figures that the next one is made of."""
        self._read |= dict.fromkeys(name for figure in figures for name in figure.constants)


def only(figures: Sequence[Figure], of: str, what: str) -> Figure:
    """Return the one figure with this name."""
    (found,) = (figure for figure in figures if (figure.of, figure.what) == (of, what))
    return found
