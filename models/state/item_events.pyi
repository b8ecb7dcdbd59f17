"""Item events: made of user events and their pairs, put together, split by partition, chosen; compiled."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.columns import EventColumns

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

class Mark(Protocol):
    """The high-water mark of a source; see ``agents/partitions/source_marks.py``."""

    mark: int
    first: int

M = TypeVar("M", bound=Mark)

def item_events(
    events: EventColumns,
    pairs: Records,
    source_partition: int,
    seq_step: int,
    n_pairs: int,
    counted: Sequence[bool],
) -> Records:
    """Return the item events of applied events and of their pairs (both ways), by ``source_seq``.

    ``counted`` is true for the kinds that items count. Offsets of ``events`` must rise.
    """

def split_item_events(arrays: list[Records], count: int) -> tuple[Records, I64]:
    """Return all item events by the partition of their item (modulo ``count``), and how many each has, int64
    ``(count,)``. The order within a partition is kept."""

def combine_item_events(events: Records) -> Records:
    """Return fewer item events that say the same; numbers of a source must rise in ``events``.

    Those of the same source, item, other item, country, age group, kind and minute become one: the amounts
    are added, and it has the number of the last of them. Numbers of a source rise in the result, too. Events
    that are ``alone`` stay as they are.
    """

def country_keys(items: U64, countries: U64) -> U64:
    """Return ``items.country_key`` of items and countries, uint64 ``(n,)``; one country may do for all.

    Raises
    ------
    ValueError
        There are not as many countries as items.
    """

def choose_item_events(
    events: Records, wanted: Bool | None, kinds: Sequence[bool], by: int
) -> tuple[I64, U64]:
    """Choose the events that change the rows of a table.

    Parameters
    ----------
    events
        Item events, ``ITEM_EVENT``, ``(n,)``.
    wanted
        Which of them are wanted, bool ``(n,)``; None: all.
    kinds
        Whether the table has events of a kind, by its number.
    by
        What the rows are of: 0 an item, 1 an item in a country, 2 an item in an age group of a country.
        Events without a country or an age group change none then.

    Returns
    -------
    at, keys
        Positions of the chosen events, int64, and the keys of their rows, uint64, both ``(m,)``.
    """

def new_item_events(events: Records, marks: dict[int, M], new_mark: Callable[[], M]) -> Bool:
    """Return which events were not counted before, bool ``(n,)``, and count them.

    Parameters
    ----------
    events
        Item events, ``ITEM_EVENT``, ``(n,)``; those of a source in its order.
    marks
        The mark of every source; a source without one gets ``new_mark()``.
    """
