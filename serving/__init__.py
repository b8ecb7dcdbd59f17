"""Answering: sources, index, re-ranking, online store, requests. See docs/architecture.md."""
