"""How often keys are seen, estimated in bounded memory while they are seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.directions import U64

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


def _factors(seed: int, hashes: int) -> U64:
    return np.random.default_rng(seed).integers(0, 2**63, hashes, np.uint64) * np.uint64(2) + np.uint64(1)


def _slots(keys: U64, factor: np.uint64, bits: int) -> I64:
    """Return slots by multiply-shift, int64 ``(n,)``."""
    out: I64 = ((keys * factor) >> np.uint64(64 - bits)).astype(np.int64)
    return out


class ClickGaps:
    """The mean gap between sightings of a key, in clicks: one over its share of the clicks.

    The streaming estimate of Yi et al. (RecSys 2019, "Sampling-bias-corrected neural modeling for large
    corpus item recommendations"): each slot of a hashed array holds the last sighting and a moving mean of
    the gaps. Keys that share a slot make the gap too small, so the largest of several arrays counts.

    Parameters
    ----------
    bits
        Slots of each array: ``2**bits``.
    hashes
        Number of arrays.
    rate
        Weight of a new gap in the moving mean, once as many gaps as ``1 / rate`` were seen; before, all count
        alike.
    longest
        No gap is taken to be longer, clicks: a key that was seen once is not infinitely rare.
    """

    def __init__(
        self, bits: int = 18, hashes: int = 2, rate: float = 0.1, longest: int = 100_000, seed: int = 7
    ) -> None:
        self.bits, self.rate, self.longest = bits, rate, longest
        self._factors = _factors(seed, hashes)
        self.last = np.zeros((hashes, 1 << bits), np.int64)
        self.gap = np.zeros((hashes, 1 << bits), np.float32)
        self.seen = np.zeros((hashes, 1 << bits), np.uint32)
        self.clicks = 0

    def count(self, keys: U64) -> None:
        """Count clicks, in their order. ``keys``: uint64 ``(n,)``."""
        times = self.clicks + 1 + np.arange(len(keys))
        for factor, last, gap, seen in zip(self._factors, self.last, self.gap, self.seen, strict=True):
            slots = _slots(keys, factor, self.bits)
            order = np.argsort(slots, kind="stable")
            run = np.arange(len(slots))
            new = np.ones(len(slots), bool)
            new[1:] = slots[order][1:] != slots[order][:-1]
            run -= np.maximum.accumulate(np.where(new, run, 0))  # how many of its slot came before
            for turn in range(int(run.max(initial=-1)) + 1):  # in every turn, each slot occurs once
                at = order[run == turn]
                self._update(last, gap, seen, slots[at], times[at])
        self.clicks += len(keys)

    def _update(self, last: I64, gap: F32, seen: npt.NDArray[np.uint32], slots: I64, times: I64) -> None:
        before = seen[slots]
        rate = np.maximum(np.float32(self.rate), 1 / np.maximum(before, 1)).astype(np.float32)
        old = gap[slots]
        gaps = np.minimum(times - last[slots], self.longest).astype(np.float32)
        gap[slots] = np.where(before > 0, old + rate * (gaps - old), old)
        last[slots] = times
        seen[slots] = before + 1

    def log_share(self, keys: U64) -> F32:
        """Return the logarithm of each key's estimated share of the clicks, float32 ``(n,)``."""
        out = np.ones(len(keys), np.float32)
        unknown = np.float32(min(self.clicks + 1, self.longest))
        for factor, gap, seen in zip(self._factors, self.gap, self.seen, strict=True):
            slots = _slots(keys, factor, self.bits)
            np.maximum(out, np.where(seen[slots] > 1, gap[slots], unknown), out=out)
        log: F32 = -np.log(out)
        return log


class Sightings:
    """How often keys were seen lately: a count-min sketch whose counts are halved now and then.

    A count is never too small, but for the halving; keys that share slots may make it too large.

    Parameters
    ----------
    bits
        Counters of each array: ``2**bits``, one byte each.
    hashes
        Number of arrays.
    """

    def __init__(self, bits: int = 20, hashes: int = 2, seed: int = 11) -> None:
        self.bits = bits
        self._factors = _factors(seed, hashes)
        self.counts = np.zeros((hashes, 1 << bits), np.uint8)
        self.added = 0

    def add(self, keys: U64, times: I64) -> I64:
        """Count ``times`` sightings of different ``keys``; return how often each was seen, int64 ``(n,)``."""
        slots = [_slots(keys, factor, self.bits) for factor in self._factors]
        least = np.full(len(keys), 255, np.int64)
        for at, counts in zip(slots, self.counts, strict=True):
            np.minimum(least, counts[at], out=least)
        now: I64 = np.minimum(least + times, 255)
        for at, counts in zip(slots, self.counts, strict=True):
            np.maximum.at(counts, at, now.astype(np.uint8))
        self.added += int(times.sum())
        if self.added > 1 << self.bits:
            self.counts >>= 1
            self.added //= 2
        return now
