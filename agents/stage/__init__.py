"""What stateful agents share: partitions, flushes, held acknowledgements, the copy of rows in Redis.

See docs/architecture.md.
"""
