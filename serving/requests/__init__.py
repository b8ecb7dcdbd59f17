"""Requests and replies: reading, addresses, sending, the client. See docs/architecture.md."""
