"""Prequential evaluation: ask, score, then learn, click by click. See docs/architecture.md."""
