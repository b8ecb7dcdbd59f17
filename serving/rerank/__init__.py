"""From scores to a list. See docs/architecture.md."""
