"""Vector search. See docs/architecture.md."""
