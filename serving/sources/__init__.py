"""Candidate sources. See docs/architecture.md."""
