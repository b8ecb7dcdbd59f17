"""What `headrace verify` reads and compares with the oracle. See docs/architecture.md."""
