"""Rows of users, items and neighbours, and the counts in them. See docs/architecture.md."""
