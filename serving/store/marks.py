"""Marks as Redis keeps them, "<run id> <position>", and beats; see ``protocol.py``. Pure: sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.serving.store.applied import PLAIN

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


#: Writes beats, of the partitions whose mark is of the present run, unless this server is another one than
#: when the marks were read, or has evicted keys since; returns their partitions. What it does not tell does
#: not count. Keys: the marks, then a beat for each partition.
#: Arguments: section and field of ``INFO`` that tell this server from others, what ``run_of`` made of it,
#: the run in the marks, expiry (s), then (partition, text) for each beat.
SET_BEATS = """
local function told(section, field)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, field .. ':([^\\r\\n]*)') or nil
end
local server, evicted = told(ARGV[1], ARGV[2]), tonumber(told('stats', 'evicted_keys') or 0)
if server and ARGV[3] ~= (evicted > 0 and server .. '-' .. evicted or server) then
  return {}
end
local run, done = ARGV[4] .. ' ', {}
for i = 2, #KEYS do
  local partition = ARGV[2 * i + 2]
  local mark = redis.call('HGET', KEYS[1], partition) or ''
  if string.sub(mark, 1, #run) == run then
    redis.call('SET', KEYS[i], ARGV[2 * i + 3], 'EX', ARGV[5])
    done[#done + 1] = partition
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


def set_beats_arguments(
    of: tuple[str, str],
    server: str,
    run: str,
    ttl_s: int,
    partitions: Sequence[int],
    texts: Mapping[int, bytes],
) -> list[str | int | bytes]:
    """Return the arguments of ``SET_BEATS``; a missing text is ``PLAIN``.

    Parameters
    ----------
    of
        Section and field of ``INFO`` that tell the server from others.
    server, run
        Run of the server, and run in the marks, when they were read last.
    """
    args: list[str | int | bytes] = [*of, server, run, ttl_s]
    for partition in partitions:
        args += [partition, texts.get(partition, PLAIN)]
    return args
