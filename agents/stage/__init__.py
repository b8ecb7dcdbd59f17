"""What stateful agents share: partitions, beats, held acknowledgements, the copy in Redis.

See docs/architecture.md.
"""
