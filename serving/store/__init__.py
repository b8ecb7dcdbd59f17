"""The online store: its protocol, in Redis, in memory. See docs/architecture.md."""
