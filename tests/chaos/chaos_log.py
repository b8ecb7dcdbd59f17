"""What a chaos run tells while it goes on, what did not hold, and its figures."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console


class Log:
    """``figures`` grow as the run goes on; ``problems`` say what did not hold (none: everything held)."""

    def __init__(self, out: Console) -> None:
        self.problems: list[str] = []
        self.figures: dict[str, Any] = {}
        #: When the events began (monotonic, s); 0 before.
        self.t0 = 0.0
        self._out = out

    def tell(self, text: str, *, style: str = "") -> None:
        """Print a line with the seconds since the events began."""
        at = f"{time.monotonic() - self.t0:7.1f} s" if self.t0 else "         "
        self._out.print(f"{at}  {text}", style=style, markup=False, soft_wrap=True)
