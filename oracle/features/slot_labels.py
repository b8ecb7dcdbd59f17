"""When slots close before their list, and what labels they may have: from impressions and events alone."""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl

SLOT: Final = ["user", "request", "ts", "position"]
LIST: Final = ["user", "request", "ts"]
#: Kinds of events that touch an item, and that say it is not wanted.
TOUCHES: Final = ["click", "dwell", "like", "save", "follow"]
NOT_WANTED: Final = ["skip", "hide"]
#: The labels; a set of them is the sum of 1, 2, 4, 8.
LABELS: Final = ("touched", "skipped", "passed", "unseen")
#: A time of an impression may be this much later for the live join than its record says (ms): the time of
#: lists does not fall, and a list is not older than the moment at which its topic had been read to the end.
RAISED_MS: Final = 2000
#: An event that reached its topic later than this (ms) after its own timestamp may have come after its
#: impression was closed. So labels are certain only for events this long before the end of the wait.
SLOW_MS: Final = 30_000
#: Later than any time.
_NEVER: Final = 1 << 62


class Early(NamedTuple):
    """How long a passed slot stays open, ms; how many slots are seen below the deepest one with an event."""

    grace_ms: int
    below: int


def followed(shown: pl.DataFrame) -> pl.DataFrame:
    """Return impressions with ``next_at``: when the user's next list of the surface was recorded (ms).

    Null without one, or where that is of the same request. ``plain``: no impression before it is dated later;
    ``next_plain``: nor before the next one, which was written after it was made.
    """
    told = shown.sort("offset").with_columns(
        plain=pl.col("timestamp").cum_max() - pl.col("timestamp") <= RAISED_MS // 2
    )
    place = ["user", "surface"]
    after = {n: pl.col(n).shift(-1).over(place) for n in ("timestamp", "ts", "request", "plain")}
    other = after["request"] != pl.col("request")
    return told.with_columns(
        next_at=pl.when(other).then(after["timestamp"]),
        next_request=after["request"],
        next_ts=after["ts"],
        next_plain=(after["plain"] & (after["ts"] <= after["timestamp"])).fill_null(False),
    )


def closed_early(slots: pl.DataFrame, answers: pl.DataFrame, early: Early) -> pl.DataFrame:
    """Return slots with what decides their labels.

    An event on a slot says that the slots above it were passed; a skip or a hide, that its own was. The next
    list of the user and the surface says it of the slots down to the deepest one with an event before that
    list, and ``early.below`` more. A slot closes ``early.grace_ms`` after the first of these signs, unless it
    was touched before.

    Parameters
    ----------
    slots
        With ``next_at``, ``next_plain``, ``plain``, open_to, late, written.
    answers
        ``SLOT``, kind, timestamp, stream, depth (first position of the item on the list), sure.

    Returns
    -------
    DataFrame
        ``slots`` with closed_from and closed_to (ms): from then on an event may not count, and surely does
        not; may_pass and sure_pass: whether it may have been passed, and surely was.
    """
    lists = [*LIST, "position", "next_at", "next_plain", "plain", "late", "written", "ends", "next_dated"]
    # A list that is dated ahead was written before its wait, by its own time, was over.
    dated = slots.group_by(LIST).agg(next_dated=pl.col("written").max() >= pl.col("closes").min() - RAISED_MS)
    places = slots.filter(~pl.col("unshown")).with_columns(
        ends=pl.min_horizontal(pl.col("closes"), pl.col("written").max().over(LIST))
    )
    places = places.join(
        dated, left_on=["user", "next_request", "next_ts"], right_on=LIST, how="left", maintain_order="left"
    )
    of_shown = answers.filter(pl.col("depth").is_not_null())
    of_lists = of_shown.select(*LIST, "kind", "timestamp", "depth", "sure", at="position")
    pairs = places.select(lists).join(of_lists, on=LIST)
    pairs = pairs.with_columns(**_signs(early))
    signs = pairs.group_by(SLOT).agg(
        may_at=pl.when("may_sign").then("timestamp").min(),
        sure_at=pl.when("sure_sign").then(pl.col("timestamp") + RAISED_MS).min(),
        asked_at=pl.when("sure_asked").then(pl.max_horizontal("next_at", "written")).min(),
        may_pass=(pl.col("may_sign") & ~pl.col("own")).any(),
        sure_pass=((pl.col("sure_sign") & ~pl.col("own")) | pl.col("sure_asked")).any(),
    )
    touches = answers.filter(pl.col("kind").is_in(TOUCHES)).select(*SLOT, "timestamp", "stream", "sure")
    first = signs.select(*SLOT, "may_at").join(touches, on=SLOT)
    kept = (
        first.with_columns(signed=pl.col("may_at") + early.grace_ms)
        .group_by(SLOT)
        .agg(
            surely_kept=(
                pl.col("sure") & (pl.max_horizontal("timestamp", "stream") < pl.col("signed"))
            ).any(),
            touched_at=pl.col("timestamp").min(),
        )
    )
    told = slots.join(signs, on=SLOT, how="left", maintain_order="left")
    told = told.join(kept, on=SLOT, how="left", maintain_order="left")
    latest = pl.min_horizontal("sure_at", "asked_at") + early.grace_ms
    maybe_kept = pl.col("touched_at") < latest
    closed_from = pl.when(pl.col("surely_kept")).then(None).otherwise(pl.col("may_at") + early.grace_ms)
    return told.with_columns(
        pl.col("may_pass", "sure_pass").fill_null(False),
        closed_from=closed_from.fill_null(_NEVER),
        closed_to=pl.when(maybe_kept.fill_null(False)).then(None).otherwise(latest).fill_null(_NEVER),
    ).drop("may_at", "sure_at", "asked_at", "surely_kept", "touched_at")


def _signs(early: Early) -> dict[str, pl.Expr]:
    """Return whether an event on a list may be, or surely is, a sign that a slot was passed."""
    own = (pl.col("at") == pl.col("position")) & pl.col("kind").is_in(NOT_WANTED)
    direct = own | (pl.col("depth") > pl.col("position"))
    near = pl.col("position") <= pl.col("depth") + early.below
    sure = pl.col("sure") & pl.col("plain")
    # The next list came when this one had surely closed.
    after = (
        pl.col("plain") & pl.col("next_plain") & pl.col("next_dated") & (pl.col("next_at") >= pl.col("late"))
    )
    asked = pl.col("next_at").is_not_null() & near & ~after.fill_null(False)
    in_time = (pl.col("timestamp") <= pl.col("next_at")) & (pl.col("next_at") + SLOW_MS <= pl.col("ends"))
    return {
        "own": own & ~(pl.col("depth") > pl.col("position")) & ~asked,
        "may_sign": direct | asked,
        "sure_sign": direct & sure,
        "sure_asked": (asked & sure & pl.col("next_plain") & in_time).fill_null(False),
    }


def labels_of(slots: pl.DataFrame) -> pl.DataFrame:
    """Return slots with ``labels``: the set of those that are right; 0 for what was not shown.

    They have touched, most_touched, skipped, most_skipped (whether an event surely, or perhaps, says so).
    """
    unsure = (pl.col("touched") == 0) & (pl.col("skipped") == 0)
    allowed = (
        pl.col("most_touched").cast(pl.Int64),
        (pl.col("most_skipped") > 0) & (pl.col("touched") == 0),
        unsure & pl.col("may_pass"),
        unsure & ~pl.col("sure_pass"),
    )
    total = pl.sum_horizontal((of > 0).cast(pl.Int64) * (1 << k) for k, of in enumerate(allowed))
    return slots.with_columns(labels=pl.when(pl.col("unshown")).then(0).otherwise(total))
