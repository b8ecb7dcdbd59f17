"""The measured constants of ``headrace capacity``: read from ``constants.json``, with where each comes from.

The file is written by ``bench/capacity_constants.py`` from the output of benchmarks, never by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from typing import Any

import msgspec

from headrace.streams.errors import ConfigError

#: A curve: points (x, y) with growing x, or one number.
Value = float | list[tuple[float, float]]


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run of a benchmark.

    Attributes
    ----------
    command
        The command that anybody can run again.
    commit
        Commit of the code that ran.
    date
        Day on which it ran, ``YYYY-MM-DD``.
    machine
        Cores, processor, version of Python; load average before it began.
    """

    command: str
    commit: str
    date: str
    machine: str


class Constant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number, or a curve, that a benchmark has measured.

    Attributes
    ----------
    value
        The number, or the points of the curve.
    unit
        Unit of the number; of a curve also what x is.
    meaning
        What it is.
    run
        Name of the run.
    at
        Where it is in the output of that run.
    """

    value: Value
    unit: str
    meaning: str
    run: str
    at: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    runs: dict[str, Run]
    constants: dict[str, Constant]


class Constants:
    """The constants of one file, by name."""

    def __init__(self, found: _File) -> None:
        self.runs, self._constants = found.runs, found.constants

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def of(self, name: str) -> Constant:
        """Return a constant with all that is known of it.

        Raises
        ------
        ConfigError
            It has not been measured.
        """
        try:
            return self._constants[name]
        except KeyError:
            raise ConfigError(
                f"the constant {name} has not been measured: run make capacity-constants"
            ) from None

    def __getitem__(self, name: str) -> float:
        value = self.of(name).value
        if isinstance(value, list):
            raise ConfigError(f"the constant {name} is a curve")
        return value

    def at(self, name: str, x: float) -> float:
        """Return the value of a curve: linear in log x between its points, level beyond its ends."""
        points = self.of(name).value
        if not isinstance(points, list):
            raise ConfigError(f"the constant {name} is no curve")
        if x <= points[0][0]:
            return points[0][1]
        for (x0, y0), (x1, y1) in pairwise(points):
            if x <= x1:
                return y0 + (y1 - y0) * math.log(x / x0) / math.log(x1 / x0)
        return points[-1][1]


def parsed(text: bytes) -> Constants:
    """Read constants.

    Raises
    ------
    ConfigError
        One of them does not say where it comes from, is not a positive finite number, or a curve whose x
        does not grow.
    """
    try:
        found = msgspec.json.decode(text, type=_File)
    except msgspec.MsgspecError as exc:
        raise ConfigError(f"the constants cannot be read: {exc}") from exc
    for name, run in found.runs.items():
        if missing := [field for field, value in msgspec.structs.asdict(run).items() if not value.strip()]:
            raise ConfigError(f"the run {name} says no {', '.join(missing)}")
    for name, constant in found.constants.items():
        if constant.run not in found.runs:
            raise ConfigError(f"the constant {name} is of no known run ({constant.run!r})")
        if not all((constant.unit, constant.meaning, constant.at)):
            raise ConfigError(f"the constant {name} needs unit, meaning and its place in the output")
        points = constant.value if isinstance(constant.value, list) else [(1.0, constant.value)]
        xs = [x for x, _ in points]
        if not points or xs != sorted(set(xs)) or not all(_is_measure(v) for p in points for v in p):
            raise ConfigError(f"the constant {name} is not a positive number, or no curve")
    return Constants(found)


def _is_measure(value: Any) -> bool:
    return math.isfinite(value) and value > 0


def shipped() -> Constants:
    """Return the constants that are installed with this version."""
    return parsed(files(__package__).joinpath("constants.json").read_bytes())
