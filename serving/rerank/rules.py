"""How a list is made from scores: the numbers. Each can be switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from headrace.streams.errors import ConfigError

Diversity = Literal["mmr", "dpp", "none"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of the re-rank stage.

    Parameters
    ----------
    diversity, strength
        How similar items are kept apart, and how much of the choice that is: 0 (off) to 1 (nothing else).
    creator_decay, creator_floor
        Each item of a creator multiplies the score of the creator's other items by this, down to the floor;
        1 is off.
    creator_at_most, creator_window
        At most this many items of a creator in any so many slots in a row (0: in the list); 0 is off.
    category_at_most, category_share
        At most this many slots, and at most this share of them (rounded up), for one category; 0 and 1 are
        off.
    tail_share
        At least this share of the slots (rounded up) shows long-tail items, while there are any; 0 is off.
    not_followed
        Factor of the items whose creator the user does not follow; 1 is off.
    boosts
        Whether the items' own boosts count.
    fresh_share
        Share of the slots (rounded) that is kept for fresh items; 0 is off.
    thompson
        Share of the fresh slots that is filled by Thompson sampling; the others get the best fresh item.
    fresh_prior
        Whether the click rates of a new item's category and creator are believed of it, before it was shown.
    prior_clicks, prior_misses
        What is believed of an item that was never shown: a Beta distribution with these two parameters.
    welcome
        So many slots at the top of the list of a user without history are filled by Thompson sampling, each
        from a category that is not on the list yet; 0 is off.
    welcome_shown
        What is known of an item counts as much there as so many shown slots, at most: what people in
        general do says only so much about one of them.
    epsilon
        Chance, slot by slot, of a uniformly random candidate among the allowed ones.

    Raises
    ------
    ValueError
        A number is outside its range.
    """

    diversity: Diversity = "mmr"
    strength: float = 0.1
    creator_decay: float = 0.5
    creator_floor: float = 0.25
    creator_at_most: int = 0
    creator_window: int = 0
    category_at_most: int = 0
    category_share: float = 1.0
    tail_share: float = 0.0
    not_followed: float = 0.75
    boosts: bool = True
    fresh_share: float = 0.05
    thompson: float = 1.0
    fresh_prior: bool = True
    prior_clicks: float = 1.0
    prior_misses: float = 20.0
    welcome: int = 2
    welcome_shown: float = 1000.0
    epsilon: float = 0.02

    def __post_init__(self) -> None:
        if self.diversity not in ("mmr", "dpp", "none"):
            raise ValueError(f"diversity is mmr, dpp or none, got {self.diversity!r}")
        for name in ("strength", "tail_share", "fresh_share", "thompson", "epsilon"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is from 0 to 1, got {getattr(self, name)}")
        for name in ("creator_decay", "creator_floor", "category_share", "not_followed"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is above 0 and at most 1, got {getattr(self, name)}")
        for name in ("creator_at_most", "creator_window", "category_at_most", "welcome"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative, got {getattr(self, name)}")
        if not (self.prior_clicks > 0 and self.prior_misses > 0):
            raise ValueError("prior_clicks and prior_misses are above 0")
        if not self.welcome_shown > 0:
            raise ValueError(f"welcome_shown is above 0, got {self.welcome_shown}")


def rules_of(how: Mapping[str, str]) -> Rules:
    """Return the default rules with these numbers changed (name -> text).

    Raises
    ------
    ConfigError
        A name is unknown, or a value is none or outside its range; the message names it.
    """
    kinds = get_type_hints(Rules)
    changes: dict[str, Any] = {}
    for name, text in how.items():
        if name not in kinds:
            raise ConfigError(f"HEADRACE_RULES: there is no rule {name!r}; there are {', '.join(kinds)}")
        try:
            changes[name] = _VALUES.get(kinds[name], str)(text)
        except (KeyError, ValueError) as exc:
            raise ConfigError(f"HEADRACE_RULES: {name}={text!r} is no value for it") from exc
    try:
        return Rules(**changes)
    except ValueError as exc:
        raise ConfigError(f"HEADRACE_RULES: {exc}") from exc


_VALUES: dict[Any, Callable[[str], Any]] = {
    float: float,
    int: int,
    bool: {"on": True, "off": False, "true": True, "false": False}.__getitem__,
}

#: Everything is off: a list is the candidates by score.
OFF = Rules(
    diversity="none",
    creator_decay=1,
    not_followed=1,
    boosts=False,
    fresh_share=0,
    welcome=0,
    epsilon=0,
)
