"""Comparing dedup windows, published models, and records sent on to another partition."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

import numpy as np
import polars as pl

from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.records.models import Learnt
from headrace.oracle.records.places import MOVED, At
from headrace.oracle.records.towers import PublishedTowers

#: Names of the kinds in ``Findings.by_kind``.
IDS: Final = "event ids in dedup windows"
VERSIONS: Final = "versions of the online model"
LEARNT: Final = "shown slots that the online model has learnt"
LEAVES: Final = "leaf deltas"
TOWERS: Final = "published towers"
NAMED: Final = "impressions that name a version"
SENT_ON: Final = "records sent on"


def compare_windows(
    findings: Findings, partition: int, expected: Mapping[int, int], found: Mapping[int, int]
) -> None:
    """Compare the dedup window of a partition: key of each event_id -> last stream time it was seen at."""
    keys = sorted(expected.keys() | found.keys())
    findings.compared += len(keys)
    findings.count(IDS, len(expected))
    wrong = [key for key in keys if expected.get(key) != found.get(key)]

    def make(k: int) -> Difference:
        key = wrong[k]
        row = f"dedup window of partition {partition}"
        return Difference(row, f"{key:016x}", "last seen", None, expected.get(key), found.get(key))

    findings.add("event_id", np.array(wrong, np.uint64), make)


def compare_versions(findings: Findings, versions: pl.DataFrame, named: pl.DataFrame) -> None:
    """Check that every published version is finite, and that impressions name a version new enough.

    Parameters
    ----------
    versions
        ``VERSIONS``.
    named
        The result of ``named_versions``.
    """
    findings.compared += len(versions)
    findings.count(VERSIONS, len(versions))
    bad = versions.filter(~pl.col("finite"))

    def infinite(k: int) -> Difference:
        version, offset = bad.select("version", "offset").row(k)
        return Difference(
            f"online model {version}", f"{offset:016x}", "weights", None, "finite", "not finite"
        )

    findings.add("online model", bad["offset"].to_numpy().astype(np.uint64), infinite)
    sure = named.filter("sure")
    findings.compared += len(sure)
    findings.count(NAMED, len(sure), len(named) - len(sure))
    old = sure.filter(~pl.col("right"))

    def named_old(k: int) -> Difference:
        name, user, ts, version, online = old.select("user_id", "user", "ts", "version", "online").row(k)
        return Difference(
            f"list shown to {name}", f"{user:016x}", "online", ts, f"{version} or newer", online
        )

    findings.add("list", old["user"].to_numpy(), named_old)


def compare_learnt(findings: Findings, learnt: Learnt | None, shown: pl.DataFrame, *, whole: bool) -> None:
    """Check that the newest online model has learnt every shown slot once, up to where it says.

    Parameters
    ----------
    shown
        ``SHOWN``.
    whole
        Whether `impressions` has every record ever written, and never was made again.
    """
    if learnt is None:
        return
    places = pl.DataFrame(list(learnt.read.items()), {"partition": pl.Int64, "read": pl.Int64}, orient="row")
    before = shown.filter((pl.col("verdict") == "") & pl.col("features").is_not_null()).join(
        places.cast({"partition": shown.schema["partition"]}), on="partition"
    )
    slots = int(before.filter(pl.col("offset") < pl.col("read"))["items"].list.len().sum())
    findings.count(LEARNT, slots if whole else 0, 0 if whole else slots)
    if not whole:
        return
    findings.compared += 1
    wrong = [learnt.offset] if learnt.examples != slots else []

    def make(_k: int) -> Difference:
        row = f"online model {learnt.version}"
        return Difference(row, f"{learnt.offset:016x}", "shown slots", None, slots, learnt.examples)

    findings.add("online model", np.array(wrong, np.uint64), make)


def compare_deltas(findings: Findings, deltas: pl.DataFrame, *, whole: bool) -> None:
    """Check that all leaf deltas are finite, and that each names a ranker that was published before.

    Parameters
    ----------
    deltas
        ``DELTAS``.
    whole
        Whether `models` still has every record. If not, a ranker that it does not have is not wrong.
    """
    unsure = deltas.filter(~pl.col("known")) if not whole else deltas.clear()
    findings.compared += len(deltas)
    findings.count(LEAVES, len(deltas), len(unsure))
    bad = deltas.filter(~pl.col("finite") | (~pl.col("known") & whole))

    def wrong(k: int) -> Difference:
        version, offset, ranker, finite = bad.select("version", "offset", "ranker", "finite").row(k)
        what = ("ranker", "one that was published", ranker) if finite else ("deltas", "finite", "not finite")
        return Difference(f"leaf deltas {version}", f"{offset:016x}", what[0], None, *what[1:])

    findings.add("leaves", bad["offset"].to_numpy().astype(np.uint64), wrong)


def compare_towers(findings: Findings, towers: PublishedTowers | None) -> None:
    """Check that the newest published towers are complete, as their checksum says, and finite."""
    if towers is None:
        return
    findings.compared += 1
    findings.count(TOWERS, 1)
    checks = [
        (
            "pieces",
            "all",
            "the head cannot be read" if towers.missing < 0 else f"{towers.missing} are missing",
        ),
        ("checksum", "that of the head", "another one"),
        ("numbers", "finite", "not finite"),
    ]
    passed = [towers.missing == 0, towers.right, towers.finite]
    wrong = [check for check, good in zip(checks, passed, strict=True) if not good][:1]

    def make(k: int) -> Difference:
        name, expected, found = wrong[k]
        return Difference(f"towers {towers.version}", f"{towers.offset:016x}", name, None, expected, found)

    findings.add("towers", np.array([towers.offset] * len(wrong), np.uint64), make)


def compare_sent_on(
    findings: Findings,
    topic: str,
    records: pl.DataFrame,
    copied: Container[At],
    letters: Container[At],
    ahead: int = 0,
) -> None:
    """Check that every record in the wrong partition has a copy that counts, or a dead letter.

    Parameters
    ----------
    topic
        Full name.
    records
        Its decoded records, with their verdicts.
    copied, letters
        Origins of the copies that count, and of the dead letters.
    ahead
        By how much the offset that a copy names is larger than that of its original: the partition was made
        again, or goes on from the log of another one.
    """
    moved = records.filter(pl.col("verdict") == MOVED).select("partition", "offset").rows()
    lost = [
        (partition, offset)
        for partition, offset in moved
        if (topic, partition, offset + ahead) not in copied and (topic, partition, offset) not in letters
    ]
    findings.compared += len(moved)
    findings.count(SENT_ON, len(moved))

    def make(k: int) -> Difference:
        partition, offset = lost[k]
        row = f"record {topic}/{partition}/{offset}"
        return Difference(row, f"{offset:016x}", "sent on", None, "a copy that counts", "none")

    findings.add(topic, np.array([offset for _, offset in lost], np.uint64), make)
