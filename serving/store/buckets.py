"""Token buckets: how often a caller may ask. In Redis as a script; in memory as ``Buckets``.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm): a bucket
that is full needs no key. Each token puts this time off by ``per`` µs; it may not be more than ``full`` µs
ahead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

#: Takes tokens for many requests, in their order; returns for each how long to wait, ms: 0 when they were
#: taken. Keys: the buckets. Arguments: ``per``, ``full``, then of each request the number of its bucket, from
#: 1 on, and its tokens. The time is that of the server: the clocks of the workers do not matter.
TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local per, full, at, out = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, {}
for k, key in ipairs(KEYS) do
  at[k] = math.min(math.max(tonumber(redis.call('GET', key) or '0'), now), now + full)
end
for i = 3, #ARGV, 2 do
  local k = tonumber(ARGV[i])
  local after = at[k] + per * tonumber(ARGV[i + 1])
  local over = after - now - full
  if over > 0 then
    out[#out + 1] = math.ceil(over / 1000)
  else
    at[k] = after
    out[#out + 1] = 0
  end
end
for k, key in ipairs(KEYS) do
  if at[k] > now then
    redis.call('SET', key, string.format('%.0f', at[k]), 'PX', math.ceil((at[k] - now) / 1000))
  end
end
return out
"""


def take_arguments(
    callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int
) -> tuple[list[int], list[int]]:
    """Return the callers with a bucket each, and the arguments of ``TAKE``.

    Parameters
    ----------
    callers, tokens
        Of each request: its caller, and how many tokens it takes. More than ``burst`` count as ``burst``.
    rate, burst
        Tokens in a second, and in a full bucket.
    """
    buckets = list(dict.fromkeys(callers))
    number = {caller: n for n, caller in enumerate(buckets, 1)}
    per, full = widths(rate, burst)
    args = [per, full]
    for caller, count in zip(callers, tokens, strict=True):
        args += [number[caller], min(count, burst)]
    return buckets, args


def widths(rate: float, burst: int) -> tuple[int, int]:
    """Return the time of a token and of a full bucket, µs."""
    per = max(1, round(1_000_000 / rate))
    return per, per * burst


class Buckets:
    """The same in memory, for one process."""

    def __init__(self) -> None:
        self._full_at: dict[int, int] = {}

    def take(
        self, callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int, now_us: int
    ) -> list[int]:
        """Take tokens; return for each request how long to wait, ms: 0 when they were taken."""
        per, full = widths(rate, burst)
        self._full_at = {caller: at for caller, at in self._full_at.items() if at > now_us}
        out = []
        for caller, count in zip(callers, tokens, strict=True):
            at = min(max(self._full_at.get(caller, 0), now_us), now_us + full)
            after = at + per * min(count, burst)
            over = after - now_us - full
            if over <= 0:
                self._full_at[caller] = after
            out.append(max(0, math.ceil(over / 1000)))
        return out
