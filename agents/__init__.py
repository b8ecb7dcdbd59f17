"""The agents, one file each; `stage` and `partitions` have what they share. See docs/architecture.md."""
