"""What the routes need of the rest: a protocol, implemented over Kafka and Redis in ``agents/monitor.py``."""

from __future__ import annotations

from typing import Any, Protocol

from headrace.serving.gateway.kept import KeptItem, KeptUser


class Backend(Protocol):
    """The installation behind the dashboard. All methods raise ``UnavailableError`` and ``TimeoutError``."""

    async def user(self, user_id: str, names: bool) -> KeptUser | None:
        """Return what is kept of a user, None when nothing is."""

    async def item(self, item_id: str) -> KeptItem | None:
        """Return what is kept of an item, None when nothing is."""

    async def list_now(self, user_id: str, surface: str, model: str = "") -> dict[str, Any]:
        """Return the list that a user would be shown now, with reasons and titles. It is not logged as shown.

        With ``model``, another version of the ranker, also what that one would make of the same candidates.
        """
