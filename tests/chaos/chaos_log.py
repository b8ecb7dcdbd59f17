"""The output of a chaos run while it is running, its problems, and its figures."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console


class Log:
    """``figures`` are filled during the run; ``problems`` are the failures (none: all is well)."""

    def __init__(self, out: Console) -> None:
        self.problems: list[str] = []
        self.figures: dict[str, Any] = {}
        #: Time of the first event (monotonic, s); 0 before it.
        self.t0 = 0.0
        self._out = out

    def tell(self, text: str, *, style: str = "") -> None:
        """Print a line with the seconds since the events began."""
        at = f"{time.monotonic() - self.t0:7.1f} s" if self.t0 else "         "
        self._out.print(f"{at}  {text}", style=style, markup=False, soft_wrap=True)
