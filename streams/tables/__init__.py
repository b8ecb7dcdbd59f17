"""State that survives: rows, partitions, changelogs, recovery, snapshots. See docs/architecture.md."""
