"""Where it is said: topic names, readers, the sender, dead letters, lag. See docs/architecture.md."""
