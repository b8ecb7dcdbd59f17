"""The online store: protocol, Redis, memory. See docs/architecture.md."""
