"""The online store: its protocol, the layout of its keys. In Redis: ``redis.py``; in memory: ``memory.py``.

Layout in Redis (all of it can be deleted: it is rebuilt from Kafka):

    key                         type     value                    expires
    <prefix>u:<16 hex digits>   string   packed user_state.ROW    user_ttl_s after it was last written
    <prefix>s:<16 hex digits>   string   packed shown.ROW         user_ttl_s after it was last written
    <prefix>n:<16 hex digits>   string   packed neighbours.ROW    item_ttl_s after it was last written
    <prefix>i:<16 hex digits>   string   packed item_state.ROW    item_ttl_s after it was last written
    <prefix>m:<kind>            hash     partition -> mark        never
    <prefix>w:<kind>:<number>   string   "1", or more: applied.py BEAT_S after it was last written
    <prefix>l:{callers}:<16 hex digits>  string  µs: buckets.py   when the bucket is full again
    <prefix>ids                 string   hash of a fixed text     never

A *kind* is one of the letters u, s, n, i: rows of users, of what they were shown, of neighbours, of items.

A *mark* is "<run> <position>", one for each partition of a kind: all records of the partition's changelog
before ``position`` have been written here (-1: perhaps none). When Redis loses its data, the marks are lost
with the rows. A mark is void when its run is not the server's present one: the run id (``INFO server``), for
a restart may have restored older rows, and the number of keys that were evicted, if any. If a hosted Redis
does not return a run id, it is empty, and only a missing mark shows a loss.

A *beat* (``w:``) is written once a second, for each partition, by the worker that writes its rows, while the
store has all of them. Readers need no clock: a beat that is missing says that rows may be missing or old. The
worker may be down, the store may take no writes or have lost data, or a refill is not done yet.

Each row is written with one ``SET``. In a Redis Cluster the rows are in groups, each in a hash slot of its
own, with marks of its own (``groups.py``, ``cluster_store.py``). The keys have the group's hash tag before
their last part: ``<prefix>u:{<tag>}:<16 hex digits>``, ``<prefix>w:<kind>:{<tag>}:<number>``; marks are in
``<prefix>m:<kind>:{<tag>}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.rows import PackedRows

#: Rows of users, of what they were shown, of neighbours, of items.
Kind = Literal["u", "s", "n", "i"]
Keys: TypeAlias = Sequence[int] | npt.NDArray[np.uint64]

#: A beat expires after this time, s.
BEAT_S = 5
#: An unreachable store is probed this often.
PROBE_S = 0.25


class OnlineStore(Protocol):
    """The store that serving reads and the stages write. Every call may raise ``UnavailableError``."""

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows."""

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows in the order of ``keys``, None where there is none."""

    async def get_several(self, wanted: Sequence[tuple[Kind, Sequence[int]]]) -> list[list[bytes | None]]:
        """Read rows of several kinds in one round trip; return those of each kind and its keys as ``get``."""

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows; keys without a row are ignored."""

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the position of every partition's mark, None where it is missing or void."""

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks with the run id of the last ``read_marks``.

        After a restart of the store these marks are void, until ``read_marks`` is called again.

        Parameters
        ----------
        marks
            Position by partition.
        seen
            If given, a mark is written only if its position is still the one here (None: missing or void).

        Returns
        -------
        The partitions whose mark was written.
        """

    async def beat(
        self, kind: Kind, partitions: Sequence[int], texts: Mapping[int, bytes] | None = None
    ) -> None:
        """Say for the next ``BEAT_S`` that the store has all rows of these partitions; see above.

        Nothing is said of a partition without a mark, or whose mark is void, and nothing at all when the
        store is not the one any more whose marks were read last: it may have lost rows since.

        ``texts`` is what the beat of a partition says; "1" of those that it does not name.
        """

    async def silence(self, kind: Kind, partitions: Sequence[int]) -> None:
        """Take back the beats of these partitions: older rows may be written."""

    async def beating(self, kind: Kind, partitions: Sequence[int]) -> set[int]:
        """Return the partitions for which ``beat`` was called in the last ``BEAT_S``."""

    async def beats(self, kind: Kind, partitions: Sequence[int]) -> dict[int, bytes]:
        """Return what the beats of these partitions say; those without one are left out."""

    async def take_tokens(
        self, callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int
    ) -> list[int]:
        """Take tokens from the buckets of callers, for many requests in their order.

        Parameters
        ----------
        callers, tokens
            Of each request: its caller, and how many tokens it takes.
        rate, burst
            Tokens in a second, and in a full bucket.

        Returns
        -------
        For each request how long to wait, ms: 0 when its tokens were taken.
        """

    async def close(self) -> None:
        """Close the connections."""
