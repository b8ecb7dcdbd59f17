"""The pages of the documentation."""

from __future__ import annotations

import re

from project import ROOT

from headrace.streams.settings import Settings

DOCS = ROOT / "docs"
PAGES = {
    p.relative_to(ROOT).as_posix(): p.read_text("utf-8")
    for p in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
}
OPERATOR = PAGES["docs/operator.md"]
DEFAULTS = Settings.model_construct()


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def redis_rights() -> list[str]:
    """Return the commands that a user of Redis needs."""
    return _found(r"^user headrace on >password resetkeys ~<prefix>\* (.*)$").split()


def cluster_rights() -> list[str]:
    """Return the commands that it needs beside them in a Redis Cluster."""
    return _found(r"In a Redis Cluster it also needs `(.*?)`").split()


def _found(pattern: str) -> str:
    (line,) = re.findall(pattern, OPERATOR, re.MULTILINE)
    return str(line)
