"""Scores from features, one file a scorer; the first one that can is used. See docs/parts.md."""
