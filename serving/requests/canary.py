"""What the canary sends, and what it sees in replies. Pure.

Its items may be shown in one country only, which no user has, so nobody else gets them. Its users do nothing
but hide a creator and follow it again, in turns. Such an event goes the way of every click into the row of
its user, but it makes no item event and no model learns from it. Their lists are not logged as shown
(``agents/recommend.py``), so there are no examples of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

from headrace.streams.messages.schemas import (
    MIN_TS,
    AnyNone,
    Context,
    Event,
    Filters,
    Item,
    RecReply,
    RecRequest,
)

#: Every id of a user, item, creator, category and country of the canary begins with this.
RESERVED: Final = "headrace-canary"
#: Country and category of its items.
PLACE: Final = RESERVED
_HIDDEN, _OTHER = f"{RESERVED}-hidden", f"{RESERVED}-other"
#: The item that its users hide, with all of its creator.
CARRIER: Final = f"{RESERVED}-carrier"
#: The other item of that creator: it is on a list, or not.
SHOWN: Final = f"{RESERVED}-shown"
#: An item of another creator: it is on every list.
WITNESS: Final = f"{RESERVED}-witness"
#: The item that is published and withdrawn.
GUEST: Final = f"{RESERVED}-guest"


def is_canary(user_id: str) -> bool:
    """Return whether a user is one of the canary's."""
    return user_id.startswith(RESERVED)


def users(partitions: int, partition_of: Callable[[bytes, int], int]) -> list[str]:
    """Return a user for each partition; ``partition_of`` says which one a key belongs to."""
    found: dict[int, str] = {}
    for n in count():
        name = f"{RESERVED}-user-{n}"
        found.setdefault(partition_of(name.encode(), partitions), name)
        if len(found) == partitions:
            return [found[p] for p in range(partitions)]
    raise AssertionError


def item(item_id: str) -> Item:
    """Return an item. It is old, so it is in no list of new items."""
    creator = _HIDDEN if item_id in {CARRIER, SHOWN} else _OTHER
    return Item(item_id, MIN_TS, category=PLACE, creator_id=creator, countries=[PLACE])


def act(event_id: str, user_id: str, ts: int, *, wanted: bool) -> Event:
    """Return the event that takes ``SHOWN`` off the lists of a user, or, ``wanted``, puts it back."""
    if wanted:
        return Event(event_id, "follow", user_id, CARRIER, ts)
    return Event(event_id, "hide", user_id, CARRIER, ts, scope="creator")


def request(request_id: str, user_id: str, deadline_ms: int) -> RecRequest:
    """Return the request of a canary for its items."""
    return RecRequest(
        request_id, user_id, "home", context=Context(country=PLACE), deadline_ms=deadline_ms,
        filters=Filters(category=AnyNone([PLACE])), caller=RESERVED,
    )  # fmt: skip


def sees(reply: RecReply, item_id: str) -> bool | None:
    """Return whether an item is on the list of a reply; None when the reply does not tell.

    It tells when the list has the witness, and, for the item that users hide, when it was made with the row
    of the user.
    """
    there = {one.item_id for one in reply.items}
    if WITNESS not in there or (item_id == SHOWN and "user" in reply.degraded):
        return None
    return item_id in there
