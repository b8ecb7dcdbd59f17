"""Headrace: an event-driven recommender on Kafka. See docs/architecture.md."""
