"""Topics: names, flow, readers, the sender, dead letters, lag. See docs/architecture.md."""
