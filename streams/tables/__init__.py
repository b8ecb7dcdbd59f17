"""State stores: rows, partitions, changelogs, recovery, snapshots. See docs/architecture.md."""
