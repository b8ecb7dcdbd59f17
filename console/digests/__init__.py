"""What `headrace digest` reads, asks and writes. See docs/caller.md."""
