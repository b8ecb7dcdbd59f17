"""Features: their list, what they are made of, and the function that fills them. See docs/architecture.md."""
