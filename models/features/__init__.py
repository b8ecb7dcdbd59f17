"""Features: their list, their inputs, and the function that fills them. See docs/architecture.md."""
