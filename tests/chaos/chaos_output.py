"""What the workers' output tells after a chaos run: rebalances and errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from chaos_plan import role_of

_ASSIGNED = re.compile(r"Assigned (\d+) partitions \(generation (\d+)\)")
_TROUBLE = re.compile(r" (ERROR|CRITICAL) (.*)$")


def rebalances(logs: Iterable[Path]) -> dict[str, int]:
    """Return role -> distinct generations of its group, from the output of its workers."""
    seen: dict[str, set[str]] = {}
    for log in logs:
        text = log.read_text("utf-8", "replace")
        seen.setdefault(role_of(log.stem), set()).update(m[2] for m in _ASSIGNED.finditer(text))
    return {role: len(generations) for role, generations in sorted(seen.items())}


def troubles(logs: Iterable[Path]) -> Mapping[str, int]:
    """Return the errors in the workers' logs without numbers, and their counts; the most frequent first."""
    counts: Counter[str] = Counter()
    for log in logs:
        for line in log.read_text("utf-8", "replace").splitlines():
            if found := _TROUBLE.search(line):
                counts[f"{role_of(log.stem)}: {re.sub(r'[0-9]+', '#', found[2])[:140]}"] += 1
    return dict(counts.most_common())
