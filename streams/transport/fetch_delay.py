"""How long an app waits before it fetches again: new records gather at the broker, one fetch brings several.

While enough waits in the process, that delays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def delay_fetches(app: Any, seconds: Callable[[], float]) -> None:
    """Leave new records at the broker for ``seconds()`` before each fetch of this app."""
    app.__dict__["fetch_delay_s"] = seconds


def fetch_delay_s(app: Any) -> float:
    """Return how long the next fetch waits before it is sent, s."""
    seconds: Callable[[], float] | None = app.__dict__.get("fetch_delay_s")
    return 0.0 if seconds is None else seconds()
