"""Re-ranking: a list from scores. See docs/architecture.md."""
