"""Local time of a country: that of its largest zone in the IANA time zone database."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, HOUR_MS

#: The countries of which the file names a smaller zone with another time first.
_LARGEST = {
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
}


def local_time(country: int, now: int) -> tuple[int, int]:
    """Return the hour (0 to 23) and the day of the week (0: Monday) in a country.

    Parameters
    ----------
    country
        Hash of its ISO 3166 code in capital letters; of another one, UTC is used.
    now
        ms.
    """
    local = now + _offset_ms(country, now // HOUR_MS)
    return local // HOUR_MS % 24, (local // DAY_MS + 3) % 7  # 1970 began on a Thursday


@lru_cache(maxsize=1024)
def _offset_ms(country: int, hour: int) -> int:
    zone = _zones().get(country)
    if zone is None:
        return 0
    offset = datetime.fromtimestamp(hour * 3600, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() * 1000)


@cache
def _zones() -> dict[int, str]:
    """Return the zone of each country by the hash of its code: the first in the file, with few exceptions."""
    out = {hash64(code): zone for code, zone in _LARGEST.items()}
    for line in (files("tzdata") / "zoneinfo" / "zone.tab").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            code, _, zone, *_ = line.split("\t")
            out.setdefault(hash64(code), zone)
    return out
