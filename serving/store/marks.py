"""Marks as Redis keeps them: "<run id> <position>" (see ``protocol.py``). Pure: nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping

#: Writes the marks whose position is still the expected one ('*': any); returns their partitions.
#: Arguments: the run id, then (partition, expected position, new position) for each mark.
SET_MARKS = """
local run, done = ARGV[1] .. ' ', {}
for i = 2, #ARGV, 3 do
  local mark = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  mark = string.sub(mark, 1, #run) == run and string.sub(mark, #run + 1) or ''
  if ARGV[i + 1] == '*' or ARGV[i + 1] == mark then
    redis.call('HSET', KEYS[1], ARGV[i], run .. ARGV[i + 2])
    done[#done + 1] = ARGV[i]
  end
end
return done
"""


def set_marks_arguments(
    run_id: str, marks: Mapping[int, int], seen: Mapping[int, int | None] | None
) -> list[str | int]:
    """Return the arguments of ``SET_MARKS``; ``seen`` holds the expected positions, None: any."""
    args: list[str | int] = [run_id]
    for partition, position in marks.items():
        expected = "*" if seen is None else seen[partition]
        args += [partition, "" if expected is None else expected, position]
    return args


def run_of(server: str, stats: Mapping[str, object]) -> str:
    """Return the run of a server: another one after it has evicted keys, for rows may be among them.

    Parameters
    ----------
    server
        What tells this server from others, and from itself before a restart.
    stats
        Its ``INFO stats``; empty when it does not tell them.
    """
    evicted = int(str(stats.get("evicted_keys", 0)))
    return f"{server}-{evicted}" if evicted else server


def position_in(mark: bytes | None, run_id: str) -> int | None:
    """Return the position in a mark, None when there is no mark or it is void."""
    run, _, position = (mark or b"").decode().rpartition(" ")
    return int(position) if position and run == run_id else None
