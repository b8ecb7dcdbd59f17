"""The options and the result of the demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from headrace.demo.simulation.world import WorldSpec
from headrace.streams.messages.schemas import RecReply

#: The user, the list, and the title of every item by id.
Example: TypeAlias = tuple[str, RecReply, dict[str, str]]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of a demo."""

    seconds: float = 60.0  # from the start of the stack to the end of the traffic
    world: WorldSpec = field(default_factory=WorldSpec)
    plain: bool = False  # lines instead of the live page
    keep: bool = False  # the temporary folder, with the workers' output and the Parquet log
    dashboard: bool = True  # runs the dashboard
    browser: bool = False  # opens it


@dataclass(slots=True)
class DemoResult:
    """The result of a demo.

    Attributes
    ----------
    figures
        The keys of the JSON.
    problem
        What did not work, in one line; empty when everything worked.
    details
        The last output of a worker that failed.
    signal
        The signal that ended the demo early; 0 for none.
    """

    figures: dict[str, Any]
    problem: str = ""
    details: str = ""
    signal: int = 0
    example: Example | None = None
