"""Looks up what is kept of a user or an item: rows in Redis, records of topics, the names behind hashes."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.agents.stage.topic_lookup import TopicLookup
from headrace.agents.wiring import Wiring
from headrace.models.state import items as item_state
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.serving.gateway.kept import KeptItem, KeptUser, Names, hashes_of, kept_item, kept_user
from headrace.serving.store.protocol import Kind
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.tables.rows import unpack

#: Longest time to look something up in a topic, s.
LOOKUP_S = 5.0


class KeptLookup:
    """Looks things up for people.

    Parameters
    ----------
    wiring
        Settings, producer, store, clock.
    users, items
        Names of the topics with profiles and items.
    """

    def __init__(self, wiring: Wiring, users: str, items: str) -> None:
        self._wiring, self._users, self._items = wiring, users, items
        self._lookup = TopicLookup(wiring.settings, LOOKUP_S)
        most = wiring.settings.max_event_bytes
        self._decode_user, self._decode_item = Decoder(UserProfile, most), Decoder(Item, most)

    async def user(self, user_id: str, names: bool) -> KeptUser | None:
        """Return what is kept of a user."""
        key, settings = hash64(user_id), self._wiring.settings
        user = await self._row("u", key, user_state.ROW)
        shown = await self._row("s", key, shown_state.ROW)
        profile = None
        if user is None or user["has_profile"]:
            profile = await self._message(self._users, user_id, self._decode_user)
        there = user is not None and bool(user_state.known([user.tobytes()])[0])
        if not there and profile is None and (shown is None or not shown["count"]):
            return None
        wanted, complete = Names(hashes_of(user, shown)), False
        if names:
            complete = await self._lookup.find_names(self._items, wanted)
        return kept_user(
            user_id, user, shown, profile, wanted,
            complete=complete, now=self._wiring.clock.now_ms(),
            rest_ms=int(1000 * settings.shown_rest_s), most_shown=settings.shown_most,
        )  # fmt: skip

    async def item(self, item_id: str) -> KeptItem | None:
        """Return what is kept of an item."""
        row = await self._row("i", hash64(item_id), item_state.ROW)
        item = await self._message(self._items, item_id, self._decode_item)
        if row is None and item is None:
            return None
        return kept_item(item_id, item, row, self._wiring.clock.now_ms())

    async def titles(self, item_ids: list[str]) -> dict[str, str]:
        """Return the titles of items, of those whose records were found in time."""
        wanted = Names(hash64(item_id) for item_id in item_ids)
        await self._lookup.find_names(self._items, wanted)
        return {item_id: wanted.of(hash64(item_id)).title for item_id in item_ids}

    async def _row(self, kind: Kind, key: int, dtype: np.dtype[Any]) -> Any:
        rows, sound = unpack(await self._wiring.store.get(kind, [key]), dtype)
        return rows[0] if sound[0] else None

    async def _message(self, topic: str, key: str, decoder: Decoder[Any]) -> Any:
        partitions = await self._wiring.sender.partitions_of(topic)
        value = await self._lookup.last_value(topic, key, partitions)
        if value is None:
            return None
        try:
            return decoder.value(value)
        except RejectedError:
            return None  # the agents refuse it, too
