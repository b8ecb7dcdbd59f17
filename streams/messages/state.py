"""Tokens of a state: which records an answer has, or must have. Pure.

A token is the version of its form, then parts, each after a dot:

    1.e3-17             the record of `events` in partition 3 at offset 17
    1.e3-17.u3-2.m9f0c  and one of `users` (`i`: of `items`); ``m``: fingerprint of the models and the index

Parts with other letters are of newer versions, and are ignored. What a token says is compared with what is
there, and used for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from headrace.streams.errors import RejectedError

#: Topics whose records a token may name.
Source = Literal["events", "items", "users"]
LETTERS: Final[dict[Source, str]] = {"events": "e", "items": "i", "users": "u"}
_SOURCES: Final[dict[str, Source]] = {letter: source for source, letter in LETTERS.items()}

#: Most characters of a token.
LONGEST: Final = 128
#: Every token; the empty text is none.
PATTERN: Final = r"^(1(\.([eiu][0-9]{1,5}-[0-9]{1,19}|[a-df-hj-tv-z][0-9a-z-]{1,40}))*)?$"
_TOKEN = re.compile(PATTERN.removeprefix("^").removesuffix("$"))


class Mark(NamedTuple):
    """A record that an answer has or must have: its topic, its partition, its offset."""

    source: Source
    partition: int
    offset: int


def token_of(marks: Iterable[Mark], models: str = "") -> str:
    """Return the token of a state.

    Parameters
    ----------
    marks
        The last records that it has, of each topic and partition. Those with a negative offset are left out.
    models
        Fingerprint of models and index, at most 40 characters of ``0-9a-z-``.
    """
    parts = ["1"]
    parts += [f"{LETTERS[m.source]}{m.partition}-{m.offset}" for m in marks if m.offset >= 0]
    if models:
        parts.append(f"m{models}")
    return ".".join(parts)


def marks_of(token: str, field: str = "at_least") -> list[Mark]:
    """Return the records that a token names; none of an empty text.

    Raises
    ------
    RejectedError
        When it is no token of this version; it names ``field``.
    """
    if len(token) > LONGEST or not _TOKEN.fullmatch(token):
        raise RejectedError("invalid_field", field, "no token of a state, or one of a newer version")
    marks = []
    for part in token.split(".")[1:]:
        if (source := _SOURCES.get(part[0])) is not None:
            partition, _, offset = part[1:].partition("-")
            marks.append(Mark(source, int(partition), int(offset)))
    return marks
